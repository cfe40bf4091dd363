/* A stand-in for libcuda that the real cuda-bindings load: memory of this process, work that is done at once, and a
 * count of what was not given back. FAKE_FAIL names a function, and the status it gives; FAKE_LACKS one that is not
 * there. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void* Handle;

static int left, retained, capturing;
static Handle current;
static double now;

static int status(const char* name) {
    const char* failing = getenv("FAKE_FAIL");
    const size_t length = strlen(name);
    if (!failing || strncmp(failing, name, length) || failing[length] != '=') return 0;
    return atoi(failing + length + 1);
}
#define BEGIN(name)                        \
    if (!current && strncmp(name, "cuCtx", 5)) return 201; \
    if (status(name)) return status(name)

int cuGetProcAddress_v2(const char* symbol, void** function, int version, uint64_t flags, void* found) {
    const char* lacking = getenv("FAKE_LACKS");
    (void)version, (void)flags, (void)found;
    *function = lacking && !strcmp(lacking, symbol) ? NULL : dlsym(RTLD_DEFAULT, symbol);
    return 0;
}
int fake_left(void) { return left + retained; }

int cuInit(unsigned flags) { return flags ? 1 : status("cuInit"); }
int cuDriverGetVersion(int* version) { *version = 12060; return 0; }
int cuDeviceGet(int* device, int ordinal) { *device = ordinal; return status("cuDeviceGet"); }
int cuDeviceGetName(char* name, int length, int device) { snprintf(name, (size_t)length, "FAKE %d", device); return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int device) {
    *value = attribute == 75 ? 8 : attribute == 76 ? 7 : device;
    return attribute != 75 && attribute != 76;
}
int cuGetErrorString(int error, const char** text) { *text = error == 719 ? "launch failure" : "other"; return 0; }
int cuDevicePrimaryCtxRetain(Handle* context, int device) {
    if (status("cuDevicePrimaryCtxRetain")) return status("cuDevicePrimaryCtxRetain");
    *context = &retained;
    ++retained;
    return device;
}
int cuDevicePrimaryCtxRelease(int device) { --retained; current = NULL; return device; }
int cuCtxSetCurrent(Handle context) {
    if (status("cuCtxSetCurrent")) return status("cuCtxSetCurrent");
    current = context;
    return context != &retained;
}
int cuMemGetInfo(size_t* free, size_t* total) { *free = 3 << 20; *total = 4 << 20; return 0; }

int cuMemAlloc(uint64_t* address, size_t size) {
    BEGIN("cuMemAlloc");
    if (size > 3 << 20) return 2;
    *address = (uint64_t)(uintptr_t)aligned_alloc(256, (size + 255) / 256 * 256);
    ++left;
    return 0;
}
int cuMemFree(uint64_t address) { BEGIN("cuMemFree"); free((void*)(uintptr_t)address); --left; return 0; }
int cuMemHostAlloc(Handle* address, size_t size, unsigned flags) {
    BEGIN("cuMemHostAlloc");
    *address = malloc(size);
    ++left;
    return (int)flags;
}
int cuMemFreeHost(Handle address) { BEGIN("cuMemFreeHost"); free(address); --left; return 0; }

static int made(Handle* handle) { *handle = malloc(sizeof(double)); ++left; return 0; }
static int gone(Handle handle) { free(handle); --left; return 0; }

int cuStreamCreate(Handle* stream, unsigned flags) { BEGIN("cuStreamCreate"); return flags == 1 ? made(stream) : 1; }
int cuStreamDestroy(Handle stream) { return gone(stream); }
int cuStreamSynchronize(Handle stream) { BEGIN("cuStreamSynchronize"); return !stream; }
int cuStreamWaitEvent(Handle stream, Handle event, unsigned flags) { return !stream || !event || flags; }
int cuEventCreate(Handle* event, unsigned flags) { return flags ? 1 : made(event); }
int cuEventDestroy(Handle event) { return gone(event); }
int cuEventRecord(Handle event, Handle stream) { *(double*)event = now; return !stream; }
int cuEventSynchronize(Handle event) { BEGIN("cuEventSynchronize"); return !event; }
int cuEventElapsedTime(float* ms, Handle start, Handle end) {
    *ms = (float)(*(double*)end - *(double*)start);
    return 0;
}
int cuMemcpyHtoDAsync(uint64_t to, const void* from, size_t size, Handle stream) {
    memcpy((void*)(uintptr_t)to, from, size);
    now += 0.5;
    return !stream;
}
int cuMemcpyDtoHAsync(void* to, uint64_t from, size_t size, Handle stream) {
    memcpy(to, (void*)(uintptr_t)from, size);
    now += 0.25;
    return !stream;
}
int cuStreamBeginCapture(Handle stream, int mode) {
    BEGIN("cuStreamBeginCapture");
    capturing = 1;
    return !stream || mode != 1;
}
int cuStreamEndCapture(Handle stream, Handle* graph) {
    capturing = 0;
    BEGIN("cuStreamEndCapture");
    return !stream || made(graph);
}
int cuGraphInstantiateWithFlags(Handle* executable, Handle graph, uint64_t flags) {
    BEGIN("cuGraphInstantiate");
    return !graph || flags || made(executable);
}
int cuGraphLaunch(Handle executable, Handle stream) { now += 2; return !executable || !stream; }
int cuGraphDestroy(Handle graph) { return gone(graph); }
int cuGraphExecDestroy(Handle executable) { return gone(executable); }
