// Drives a plugin library as TensorRT does, without TensorRT: its headers, the library, and buffers.
//
//   harness LIBRARY OP REQUEST OUTPUT
//
// REQUEST, in text: "attribute NAME VALUE" and "tensor TYPE RANK SIZES... FILE" lines, inputs first, one output last
// (FILE is "-"). Everything that TensorRT asks of a plugin is asked and checked; OUTPUT gets what enqueue computed, twice
// the same. A library compiled with EDGEIR_EMULATED runs on buffers of this process, any other one on the GPU.
#include <NvInfer.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#ifndef EDGEIR_EMULATED
#include <cuda_runtime_api.h>
#endif

using namespace nvinfer1;

namespace {

[[noreturn]] void fail(const std::string& what) {
    std::fprintf(stderr, "harness: %s\n", what.c_str());
    std::exit(1);
}

void require(bool holds, const std::string& what) {
    if (!holds) fail(what);
}

// Bytes where the plugin computes, between guards that nobody may write to.
class Buffer {
  public:
    explicit Buffer(std::vector<char> content) : content_(std::move(content)) {
        std::vector<char> whole(content_.size() + 2 * GUARD, MARK);
        std::copy(content_.begin(), content_.end(), whole.begin() + GUARD);
#ifdef EDGEIR_EMULATED
        space_ = static_cast<char*>(std::aligned_alloc(GUARD, (whole.size() + GUARD - 1) / GUARD * GUARD));
        std::memcpy(space_, whole.data(), whole.size());
#else
        require(cudaMalloc(reinterpret_cast<void**>(&space_), whole.size()) == cudaSuccess, "no memory on the GPU");
        require(cudaMemcpy(space_, whole.data(), whole.size(), cudaMemcpyHostToDevice) == cudaSuccess, "no copy to the GPU");
#endif
    }
    ~Buffer() {
#ifdef EDGEIR_EMULATED
        std::free(space_);
#else
        cudaFree(space_);
#endif
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    void* address() const { return space_ + GUARD; }

    std::vector<char> read(const std::string& name) const {
        std::vector<char> whole(content_.size() + 2 * GUARD);
#ifdef EDGEIR_EMULATED
        std::memcpy(whole.data(), space_, whole.size());
#else
        const cudaError_t status = cudaMemcpy(whole.data(), space_, whole.size(), cudaMemcpyDeviceToHost);
        require(status == cudaSuccess, std::string("no copy from the GPU: ") + cudaGetErrorString(status));
#endif
        for (size_t index = 0; index < GUARD; ++index) {
            require(whole[index] == MARK && whole[whole.size() - 1 - index] == MARK, "bytes beside " + name + " were written to");
        }
        return {whole.begin() + GUARD, whole.end() - GUARD};
    }
    void require_untouched(const std::string& name) const { require(read(name) == content_, name + " was written to"); }

  private:
    static constexpr size_t GUARD = 256;
    static constexpr char MARK = '\x5a';
    std::vector<char> content_;
    char* space_ = nullptr;
};

struct Logger : ILogger {
    void log(Severity, const char* message) noexcept override { std::fprintf(stderr, "logger: %s\n", message); }
};
struct Finder : ILoggerFinder {
    Logger logger;
    ILogger* findLogger() override { return &logger; }
};

// An axis whose size the builder does not know: the plugin may pass it on and no more.
struct Axis : IDimensionExpr {
    int64_t size = 0;
};
struct Expressions : IExprBuilder {};

struct Tensor {
    PluginTensorDesc of{};
    std::vector<char> content;
};

DataType type_named(const std::string& name) {
    if (name == "float32") return DataType::kFLOAT;
    if (name == "float16") return DataType::kHALF;
    if (name == "bfloat16") return DataType::kBF16;
    if (name == "bool") return DataType::kBOOL;
    fail("unknown type " + name);
}

size_t bytes_of(const PluginTensorDesc& of) {
    size_t bytes = of.type == DataType::kFLOAT ? 4 : of.type == DataType::kBOOL ? 1 : 2;
    for (int axis = 0; axis < of.dims.nbDims; ++axis) bytes *= static_cast<size_t>(of.dims.d[axis]);
    return bytes;
}

template <class T> T* capability(IPluginV3* plugin, PluginCapabilityType type, const char* name) {
    IPluginCapability* found = plugin->getCapabilityInterface(type);
    require(found != nullptr, std::string("the plugin has no capability ") + name);
    return static_cast<T*>(found);
}

}  // namespace

int main(int count, char** arguments) {
    require(count == 5, "four arguments");
    void* library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) fail(dlerror());

    std::vector<std::string> names;
    std::vector<int32_t> values;
    std::vector<Tensor> tensors;
    std::ifstream request(arguments[3]);
    for (std::string line; std::getline(request, line);) {
        std::istringstream words(line);
        std::string kind, name;
        words >> kind >> name;
        if (kind == "attribute") {
            names.push_back(name);
            words >> values.emplace_back();
        } else {
            Tensor tensor;
            tensor.of.type = type_named(name);
            tensor.of.format = TensorFormat::kLINEAR;
            words >> tensor.of.dims.nbDims;
            for (int axis = 0; axis < tensor.of.dims.nbDims; ++axis) words >> tensor.of.dims.d[axis];
            std::string path;
            words >> path;
            if (path != "-") {
                std::ifstream file(path, std::ios::binary);
                tensor.content.assign(std::istreambuf_iterator<char>(file), {});
                require(tensor.content.size() == bytes_of(tensor.of), path + " has another size");
            }
            tensors.push_back(std::move(tensor));
        }
    }
    const int inputs = static_cast<int>(tensors.size()) - 1;

    // As TensorRT finds plugins in a library: a logger, then the creators.
    auto* give_logger = reinterpret_cast<void (*)(ILoggerFinder*)>(dlsym(library, "setLoggerFinder"));
    auto* give_creators = reinterpret_cast<IPluginCreatorInterface* const* (*)(int32_t&)>(dlsym(library, "getCreators"));
    require(give_logger && give_creators, "the library is no plugin library");
    Finder finder;
    give_logger(&finder);
    int32_t creators = 0;
    IPluginCreatorInterface* const* all = give_creators(creators);
    IPluginCreatorV3One* creator = nullptr;
    for (int index = 0; index < creators; ++index) {
        require(std::strcmp(all[index]->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE") == 0, "a creator of another kind");
        auto* one = static_cast<IPluginCreatorV3One*>(all[index]);
        if (std::string(one->getPluginName()) == arguments[2]) creator = one;
    }
    require(creator != nullptr, std::string("there is no creator of ") + arguments[2]);
    require(std::string(creator->getPluginNamespace()) == "edgeir" && std::string(creator->getPluginVersion()) == "1",
            "another namespace or version");

    // The parser asks for the fields that the creator names, and gives those that the node has.
    std::vector<PluginField> fields;
    const PluginFieldCollection* wanted = creator->getFieldNames();
    for (int index = 0; index < wanted->nbFields; ++index) {
        for (size_t given = 0; given < names.size(); ++given) {
            if (names[given] == wanted->fields[index].name) {
                fields.emplace_back(wanted->fields[index].name, &values[given], PluginFieldType::kINT32, 1);
            }
        }
    }
    const PluginFieldCollection collection{static_cast<int32_t>(fields.size()), fields.data()};
    std::unique_ptr<IPluginV3> plugin(creator->createPlugin("node", &collection, TensorRTPhase::kBUILD));
    if (!plugin) return 2;

    auto* core = capability<IPluginV3OneCore>(plugin.get(), PluginCapabilityType::kCORE, "core");
    require(std::string(core->getPluginName()) == arguments[2], "the plugin has another name than its creator");
    auto* build = capability<IPluginV3OneBuild>(plugin.get(), PluginCapabilityType::kBUILD, "build");
    require(build->getNbOutputs() == 1, "not one output");

    std::vector<DataType> input_types;
    for (int index = 0; index < inputs; ++index) input_types.push_back(tensors[index].of.type);
    DataType output_type{};
    if (build->getOutputDataTypes(&output_type, 1, input_types.data(), inputs) != 0) return 3;
    require(output_type == tensors.back().of.type, "another type of output");

    std::vector<std::vector<Axis>> axes(inputs);
    std::vector<DimsExprs> shapes(inputs);
    for (int index = 0; index < inputs; ++index) {
        axes[index] = std::vector<Axis>(tensors[index].of.dims.nbDims);
        shapes[index].nbDims = tensors[index].of.dims.nbDims;
        for (int axis = 0; axis < shapes[index].nbDims; ++axis) {
            axes[index][axis].size = tensors[index].of.dims.d[axis];
            shapes[index].d[axis] = &axes[index][axis];
        }
    }
    DimsExprs output_shape{};
    Expressions expressions;
    if (build->getOutputShapes(shapes.data(), inputs, nullptr, 0, &output_shape, 1, expressions) != 0) return 4;
    require(output_shape.nbDims == tensors.back().of.dims.nbDims, "another rank of output");
    for (int axis = 0; axis < output_shape.nbDims; ++axis) {
        require(static_cast<const Axis*>(output_shape.d[axis])->size == tensors.back().of.dims.d[axis], "another output shape");
    }

    std::vector<DynamicPluginTensorDesc> ranges;
    for (const Tensor& tensor : tensors) ranges.push_back({tensor.of, tensor.of.dims, tensor.of.dims, tensor.of.dims});
    for (int index = 0; index <= inputs; ++index) {
        if (!build->supportsFormatCombination(index, ranges.data(), inputs, 1)) return 5;
        std::vector<DynamicPluginTensorDesc> others = ranges;
        others[index].desc.type = DataType::kINT8;
        require(!build->supportsFormatCombination(index, others.data(), inputs, 1), "INT8 is said to be supported");
        others = ranges;
        others[index].desc.format = TensorFormat::kHWC;
        require(!build->supportsFormatCombination(index, others.data(), inputs, 1), "HWC is said to be supported");
    }
    require(!build->supportsFormatCombination(inputs + 1, ranges.data(), inputs, 1), "a tensor too many is supported");
    require(build->configurePlugin(ranges.data(), inputs + 1, ranges.data() + inputs, 1) != 0, "an input too many is taken");
    if (build->configurePlugin(ranges.data(), inputs, ranges.data() + inputs, 1) != 0) return 6;
    const size_t workspace_bytes = build->getWorkspaceSize(ranges.data(), inputs, ranges.data() + inputs, 1);

    // Into an engine and out of it: a clone is asked for its fields, and they make the plugin that runs.
    std::unique_ptr<IPluginV3> cloned(plugin->clone());
    plugin.reset();
    auto* serializing = capability<IPluginV3OneRuntime>(cloned.get(), PluginCapabilityType::kRUNTIME, "runtime");
    const PluginFieldCollection* serialized = serializing->getFieldsToSerialize();
    std::unique_ptr<IPluginV3> loaded(creator->createPlugin("node", serialized, TensorRTPhase::kRUNTIME));
    require(loaded != nullptr, "the serialized fields make no plugin");
    cloned.reset();
    auto* detached = capability<IPluginV3OneRuntime>(loaded.get(), PluginCapabilityType::kRUNTIME, "runtime");
    std::unique_ptr<IPluginV3> attached(detached->attachToContext(nullptr));
    require(attached && attached.get() != loaded.get(), "the context shares a plugin");
    auto* runtime = capability<IPluginV3OneRuntime>(attached.get(), PluginCapabilityType::kRUNTIME, "runtime");

    std::vector<std::unique_ptr<Buffer>> buffers;
    std::vector<const void*> input_addresses;
    std::vector<PluginTensorDesc> described;
    for (int index = 0; index < inputs; ++index) {
        buffers.push_back(std::make_unique<Buffer>(tensors[index].content));
        input_addresses.push_back(buffers.back()->address());
        described.push_back(tensors[index].of);
    }
    if (runtime->onShapeChange(described.data(), inputs, &tensors.back().of, 1) != 0) return 7;
    std::vector<char> results[2];
    for (int round = 0; round < 2; ++round) {
        Buffer output(std::vector<char>(bytes_of(tensors.back().of), round ? '\x00' : '\x7f'));
        Buffer workspace(std::vector<char>(workspace_bytes, round ? '\x33' : '\xff'));
        void* addresses[] = {output.address()};
        if (runtime->enqueue(described.data(), &tensors.back().of, input_addresses.data(), addresses, workspace.address(),
                             nullptr) != 0) {
            return 8;
        }
        results[round] = output.read("the output");
        workspace.read("the workspace");
    }
    require(results[0] == results[1], "two runs gave two results");
    for (int index = 0; index < inputs; ++index) buffers[index]->require_untouched("input " + std::to_string(index));
    std::ofstream(arguments[4], std::ios::binary).write(results[0].data(), static_cast<std::streamsize>(results[0].size()));
    std::cout << "workspace " << workspace_bytes << "\n";
    return 0;
}
