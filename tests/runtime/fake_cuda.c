/* A stand-in for libcuda: memory of this process, and one kernel that writes how it was launched. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int allocated, modules, streams, retained;
static const char* failing;

int fake_left(void) { return allocated + modules + streams + retained; }
void fake_fail(const char* name) { failing = name; }
static int status(const char* name) { return failing && !strcmp(failing, name) ? 719 : 0; }

int cuInit(unsigned flags) { return flags ? 1 : status("cuInit"); }
int cuDeviceGet(int* device, int ordinal) { *device = 40 + ordinal; return status("cuDeviceGet"); }
int cuDevicePrimaryCtxRetain(void** context, int device) { *context = &retained; retained += device == 40; return 0; }
int cuDevicePrimaryCtxRelease_v2(int device) { retained -= device == 40; return 0; }
int cuCtxSetCurrent(void* context) { return context != &retained ? 1 : status("cuCtxSetCurrent"); }
int cuStreamCreate(void** stream, unsigned flags) {
    if (status("cuStreamCreate")) return status("cuStreamCreate");
    *stream = &streams;
    ++streams;
    return (int)flags;
}
int cuStreamDestroy_v2(void* stream) { --streams; return stream != &streams; }
int cuStreamSynchronize(void* stream) { return stream != &streams ? 1 : status("cuStreamSynchronize"); }
int cuDeviceGetName(char* name, int length, int device) { snprintf(name, (size_t)length, "FAKE %d", device); return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int device) {
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : -device;
    return 0;
}
int cuMemAlloc_v2(uint64_t* address, size_t size) {
    *address = (uint64_t)(uintptr_t)malloc(size);
    ++allocated;
    return status("cuMemAlloc_v2");
}
int cuMemFree_v2(uint64_t address) { free((void*)(uintptr_t)address); --allocated; return 0; }
int cuMemcpyHtoD_v2(uint64_t to, const void* from, size_t size) { memcpy((void*)(uintptr_t)to, from, size); return 0; }
int cuMemcpyDtoH_v2(void* to, uint64_t from, size_t size) { memcpy(to, (void*)(uintptr_t)from, size); return 0; }
int cuModuleLoadData(void** module, const void* image) { *module = strdup(image); ++modules; return 0; }
int cuModuleUnload(void* module) { free(module); --modules; return 0; }
int cuModuleGetFunction(void** function, void* module, const char* name) {
    *function = module;
    return strstr(module, name) ? 0 : 500;
}
int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void* stream, void** parameters, void** extra) {
    if (!function || stream != &streams || extra) return 1;
    int32_t* output = (int32_t*)(uintptr_t)*(uint64_t*)parameters[1];
    const int32_t* input = (const int32_t*)(uintptr_t)*(uint64_t*)parameters[0];
    const int32_t numbers[] = {(int32_t)gx, (int32_t)gy, (int32_t)gz, (int32_t)bx, (int32_t)by, (int32_t)bz, (int32_t)shared};
    for (int index = 0; index < 7; ++index) output[index] = numbers[index] + input[index];
    return 0;
}
int cuGetErrorString(int error, const char** text) { *text = error == 719 ? "unspecified launch failure" : "other"; return 0; }
