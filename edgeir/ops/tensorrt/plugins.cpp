// The fused ops as TensorRT plugins (IPluginV3, TensorRT 10.0 to 11.x): names, shapes, types and fields for TensorRT, and
// a call of the launchers of edgeir/ops/cuda. No arithmetic.
//
// TensorRT finds the plugins through getCreators() when the library is loaded (loadLibrary, trtexec --dynamicPlugins), so
// nothing here is registered statically and nothing is linked with TensorRT: its headers are enough to compile.
#include <NvInfer.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <new>
#include <string>

#include "launchers.h"

#define EDGEIR_TEXT_(value) #value
#define EDGEIR_TEXT(value) EDGEIR_TEXT_(value)
#ifndef EDGEIR_BUILD
#define EDGEIR_BUILD "unknown"
#endif

namespace {

using namespace nvinfer1;

constexpr char NAMESPACE[] = "edgeir";
constexpr char VERSION[] = "1";

ILoggerFinder* logger_finder = nullptr;

void complain(const char* op, const std::string& what) noexcept {
    const std::string line = std::string("edgeir: ") + op + ": " + what;
    ILogger* logger = logger_finder ? logger_finder->findLogger() : nullptr;
    if (logger) {
        logger->log(ILogger::Severity::kERROR, line.c_str());
    } else {
        std::fprintf(stderr, "%s\n", line.c_str());
    }
}

// The number that launchers know a type by, or -1.
int launcher_type(DataType type) noexcept {
    switch (type) {
        case DataType::kFLOAT:
            return EDGEIR_FLOAT32;
        case DataType::kHALF:
            return EDGEIR_FLOAT16;
        case DataType::kBF16:
            return EDGEIR_BFLOAT16;
        default:
            return -1;
    }
}

EdgeirType type_of(const PluginTensorDesc& tensor) noexcept { return static_cast<EdgeirType>(launcher_type(tensor.type)); }

// Each op: what the table (edgeir/ops/table.py) says of it, and its launcher. `shape` points at the sizes of each input.
struct KeyGraph {
    static constexpr char NAME[] = "EdgeirKeyGraph";
    static constexpr std::array<const char*, 1> ATTRIBUTES{"k"};
    static constexpr std::array<bool, 2> IS_BOOL{false, true};  // inputs, then the output
    static constexpr int RANK = 3;
    static constexpr bool BFLOAT16 = false;

    static void output_shape(const DimsExprs* inputs, DimsExprs& output) noexcept {
        output = inputs[0];
        output.d[2] = inputs[0].d[1];
    }

    static bool fits(const Dims* shape, const int* attributes, EdgeirType type) noexcept {
        return edgeir_key_graph_fits(shape[0].d[0], shape[0].d[1], shape[0].d[2], attributes[0], type);
    }

    static int64_t workspace(const Dims*, const int*, EdgeirType) noexcept { return 0; }

    static int launch(const PluginTensorDesc* in, const void* const* inputs, void* output, void*, const int* attributes,
                      cudaStream_t stream) noexcept {
        const Dims& of = in[0].dims;
        return edgeir_key_graph(inputs[0], output, of.d[0], of.d[1], of.d[2], attributes[0], type_of(in[0]), stream);
    }
};

struct KeyGraphAttention {
    static constexpr char NAME[] = "EdgeirKeyGraphAttention";
    static constexpr std::array<const char*, 0> ATTRIBUTES{};
    static constexpr std::array<bool, 7> IS_BOOL{false, false, false, true, false, false, false};
    static constexpr int RANK = 4;
    static constexpr bool BFLOAT16 = true;

    static void output_shape(const DimsExprs* inputs, DimsExprs& output) noexcept { output = inputs[0]; }

    static bool fits(const Dims* shape, const int*, EdgeirType type) noexcept {
        return edgeir_key_graph_attention_fits(shape[0].d[0], shape[0].d[1], shape[0].d[2], shape[0].d[3], type);
    }

    static int64_t workspace(const Dims*, const int*, EdgeirType) noexcept { return 0; }

    static int launch(const PluginTensorDesc* in, const void* const* inputs, void* output, void*, const int*,
                      cudaStream_t stream) noexcept {
        const Dims& of = in[0].dims;
        return edgeir_key_graph_attention(inputs[0], inputs[1], inputs[2], inputs[3], inputs[4], inputs[5], output, of.d[0],
                                          of.d[1], of.d[2], of.d[3], 1, type_of(in[0]), stream);
    }
};

struct GstAttention {
    static constexpr char NAME[] = "EdgeirGstAttention";
    static constexpr std::array<const char*, 2> ATTRIBUTES{"heads", "stride"};
    static constexpr std::array<bool, 7> IS_BOOL{};
    static constexpr int RANK = 4;
    static constexpr bool BFLOAT16 = true;

    static void output_shape(const DimsExprs* inputs, DimsExprs& output) noexcept { output = inputs[0]; }

    static bool fits(const Dims* shape, const int* attributes, EdgeirType type) noexcept {
        return workspace(shape, attributes, type) >= 0;
    }

    static int64_t workspace(const Dims* shape, const int* attributes, EdgeirType type) noexcept {
        const Dims& of = shape[0];
        return edgeir_gst_attention_workspace(of.d[0], of.d[1], of.d[2], of.d[3], attributes[0], attributes[1], type);
    }

    static int launch(const PluginTensorDesc* in, const void* const* inputs, void* output, void* workspace,
                      const int* attributes, cudaStream_t stream) noexcept {
        const Dims& of = in[0].dims;
        return edgeir_gst_attention(inputs[0], inputs[1], inputs[2], inputs[3], inputs[4], inputs[5], output, workspace,
                                    of.d[0], of.d[1], of.d[2], of.d[3], attributes[0], attributes[1], type_of(in[0]),
                                    stream);
    }
};

template <class Op>
class Plugin final : public IPluginV3,
                     public IPluginV3OneCore,
                     public IPluginV3OneBuild,
                     public IPluginV3OneRuntime {
  public:
    static constexpr int INPUTS = static_cast<int>(Op::IS_BOOL.size()) - 1;
    using Attributes = std::array<int32_t, Op::ATTRIBUTES.size()>;

    explicit Plugin(const Attributes& attributes) noexcept : attributes_(attributes) { point_fields_here(); }
    Plugin(const Plugin& other) noexcept : Plugin(other.attributes_) {}
    Plugin& operator=(const Plugin&) = delete;

    IPluginCapability* getCapabilityInterface(PluginCapabilityType type) noexcept override {
        switch (type) {
            case PluginCapabilityType::kCORE:
                return static_cast<IPluginV3OneCore*>(this);
            case PluginCapabilityType::kBUILD:
                return static_cast<IPluginV3OneBuild*>(this);
            case PluginCapabilityType::kRUNTIME:
                return static_cast<IPluginV3OneRuntime*>(this);
        }
        return nullptr;
    }
    IPluginV3* clone() noexcept override { return new (std::nothrow) Plugin(*this); }

    const AsciiChar* getPluginName() const noexcept override { return Op::NAME; }
    const AsciiChar* getPluginVersion() const noexcept override { return VERSION; }
    const AsciiChar* getPluginNamespace() const noexcept override { return NAMESPACE; }

    int32_t getNbOutputs() const noexcept override { return 1; }

    int32_t getOutputDataTypes(DataType* outputs, int32_t output_count, const DataType* inputs,
                               int32_t input_count) const noexcept override {
        if (!counts_fit(input_count, output_count)) return 1;
        outputs[0] = Op::IS_BOOL[INPUTS] ? DataType::kBOOL : inputs[0];
        return 0;
    }

    int32_t getOutputShapes(const DimsExprs* inputs, int32_t input_count, const DimsExprs*, int32_t, DimsExprs* outputs,
                            int32_t output_count, IExprBuilder&) noexcept override {
        if (!counts_fit(input_count, output_count)) return 1;
        if (inputs[0].nbDims != Op::RANK) {
            complain(Op::NAME, "the first input has " + std::to_string(inputs[0].nbDims) + " axes, expected " +
                                   std::to_string(Op::RANK));
            return 1;
        }
        Op::output_shape(inputs, outputs[0]);
        return 0;
    }

    bool supportsFormatCombination(int32_t position, const DynamicPluginTensorDesc* tensors, int32_t input_count,
                                   int32_t output_count) noexcept override {
        if (!counts_fit(input_count, output_count) || position < 0 || position > INPUTS) return false;
        const PluginTensorDesc& tensor = tensors[position].desc;
        if (tensor.format != TensorFormat::kLINEAR) return false;
        if (Op::IS_BOOL[position]) return tensor.type == DataType::kBOOL;
        if (position > 0) return tensor.type == tensors[0].desc.type;
        const int type = launcher_type(tensor.type);
        return type >= 0 && (Op::BFLOAT16 || type != EDGEIR_BFLOAT16);
    }

    int32_t configurePlugin(const DynamicPluginTensorDesc* inputs, int32_t input_count, const DynamicPluginTensorDesc*,
                            int32_t output_count) noexcept override {
        if (!counts_fit(input_count, output_count)) return 1;
        return fits(largest(inputs), inputs[0].desc) ? 0 : 1;
    }

    size_t getWorkspaceSize(const DynamicPluginTensorDesc* inputs, int32_t, const DynamicPluginTensorDesc*,
                            int32_t) const noexcept override {
        const int64_t bytes = Op::workspace(largest(inputs).data(), attributes_.data(), type_of(inputs[0].desc));
        return bytes > 0 ? static_cast<size_t>(bytes) : 0;
    }

    int32_t onShapeChange(const PluginTensorDesc* inputs, int32_t input_count, const PluginTensorDesc*,
                          int32_t output_count) noexcept override {
        if (!counts_fit(input_count, output_count)) return 1;
        Shapes shapes;
        for (int index = 0; index < INPUTS; ++index) shapes[index] = inputs[index].dims;
        return fits(shapes, inputs[0]) ? 0 : 1;
    }

    int32_t enqueue(const PluginTensorDesc* in, const PluginTensorDesc*, const void* const* inputs, void* const* outputs,
                    void* workspace, cudaStream_t stream) noexcept override {
        const int status = Op::launch(in, inputs, outputs[0], workspace, attributes_.data(), stream);
        if (status != 0) {
            complain(Op::NAME, status == EDGEIR_UNSUPPORTED ? "there is no kernel for these sizes or this type"
                                                            : "the launch failed with CUDA error " + std::to_string(status));
        }
        return status;
    }

    IPluginV3* attachToContext(IPluginResourceContext*) noexcept override { return clone(); }

    const PluginFieldCollection* getFieldsToSerialize() noexcept override { return &serialized_; }

  private:
    using Shapes = std::array<Dims, INPUTS>;

    static Shapes largest(const DynamicPluginTensorDesc* inputs) noexcept {
        Shapes shapes;
        for (int index = 0; index < INPUTS; ++index) shapes[index] = inputs[index].max;
        return shapes;
    }

    bool counts_fit(int32_t inputs, int32_t outputs) const noexcept {
        if (inputs == INPUTS && outputs == 1) return true;
        complain(Op::NAME, std::to_string(inputs) + " inputs and " + std::to_string(outputs) + " outputs, expected " +
                               std::to_string(INPUTS) + " and 1");
        return false;
    }

    bool fits(const Shapes& shapes, const PluginTensorDesc& first) const noexcept {
        if (launcher_type(first.type) >= 0 && Op::fits(shapes.data(), attributes_.data(), type_of(first))) return true;
        std::string text;
        for (int axis = 0; axis < shapes[0].nbDims; ++axis) {
            text += (axis ? "x" : "") + std::to_string(static_cast<int64_t>(shapes[0].d[axis]));
        }
        for (size_t index = 0; index < attributes_.size(); ++index) {
            text += std::string(", ") + Op::ATTRIBUTES[index] + " " + std::to_string(attributes_[index]);
        }
        complain(Op::NAME, "there is no kernel for a first input of " + text);
        return false;
    }

    void point_fields_here() noexcept {
        for (size_t index = 0; index < attributes_.size(); ++index) {
            fields_[index] = PluginField(Op::ATTRIBUTES[index], &attributes_[index], PluginFieldType::kINT32, 1);
        }
        serialized_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
    }

    Attributes attributes_;
    std::array<PluginField, Op::ATTRIBUTES.size()> fields_;
    PluginFieldCollection serialized_{};
};

template <class Op> class Creator final : public IPluginCreatorV3One {
  public:
    Creator() noexcept {
        for (size_t index = 0; index < fields_.size(); ++index) {
            fields_[index] = PluginField(Op::ATTRIBUTES[index], nullptr, PluginFieldType::kINT32, 1);
        }
        names_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
    }

    IPluginV3* createPlugin(const AsciiChar*, const PluginFieldCollection* given, TensorRTPhase) noexcept override {
        typename Plugin<Op>::Attributes attributes{};
        for (size_t index = 0; index < attributes.size(); ++index) {
            if (!read(given, Op::ATTRIBUTES[index], attributes[index])) {
                complain(Op::NAME, std::string("needs the integer attribute '") + Op::ATTRIBUTES[index] + "'");
                return nullptr;
            }
        }
        return new (std::nothrow) Plugin<Op>(attributes);
    }

    const PluginFieldCollection* getFieldNames() noexcept override { return &names_; }
    const AsciiChar* getPluginName() const noexcept override { return Op::NAME; }
    const AsciiChar* getPluginVersion() const noexcept override { return VERSION; }
    const AsciiChar* getPluginNamespace() const noexcept override { return NAMESPACE; }

  private:
    static bool read(const PluginFieldCollection* given, const char* name, int32_t& value) noexcept {
        for (int index = 0; given && index < given->nbFields; ++index) {
            const PluginField& field = given->fields[index];
            if (std::strcmp(field.name, name) != 0 || !field.data || field.length != 1) continue;
            if (field.type == PluginFieldType::kINT32) {
                value = *static_cast<const int32_t*>(field.data);
                return true;
            }
        }
        return false;
    }

    std::array<PluginField, Op::ATTRIBUTES.size()> fields_;
    PluginFieldCollection names_{};
};

Creator<KeyGraph> key_graph;
Creator<KeyGraphAttention> key_graph_attention;
Creator<GstAttention> gst_attention;
IPluginCreatorInterface* const CREATORS[] = {&key_graph, &key_graph_attention, &gst_attention};

template <class Op> std::string described() {
    std::string text = std::string("{\"name\": \"") + Op::NAME + "\", \"types\": [";
    for (size_t index = 0; index < Op::IS_BOOL.size(); ++index) {
        text += std::string(index ? ", " : "") + (Op::IS_BOOL[index] ? "\"bool\"" : "\"T\"");
    }
    text += "], \"attributes\": [";
    for (size_t index = 0; index < Op::ATTRIBUTES.size(); ++index) {
        text += std::string(index ? ", \"" : "\"") + Op::ATTRIBUTES[index] + "\"";
    }
    return text + "]}";
}

}  // namespace

#define EDGEIR_EXPORT extern "C" __attribute__((visibility("default")))

EDGEIR_EXPORT IPluginCreatorInterface* const* getCreators(int32_t& count) {
    count = sizeof(CREATORS) / sizeof(CREATORS[0]);
    return CREATORS;
}

EDGEIR_EXPORT void setLoggerFinder(ILoggerFinder* finder) { logger_finder = finder; }

// What this library is, as JSON: for a program that has no TensorRT to ask.
EDGEIR_EXPORT const char* edgeir_plugins_describe() {
    static const std::string text =
        std::string("{\"namespace\": \"") + NAMESPACE + "\", \"version\": \"" + VERSION + "\", \"build\": \"" EDGEIR_BUILD
        "\", \"tensorrt\": \"" EDGEIR_TEXT(NV_TENSORRT_MAJOR) "." EDGEIR_TEXT(NV_TENSORRT_MINOR) "." EDGEIR_TEXT(
            NV_TENSORRT_PATCH) "\", \"ops\": [" +
        described<KeyGraph>() + ", " + described<KeyGraphAttention>() + ", " + described<GstAttention>() + "]}";
    return text.c_str();
}
