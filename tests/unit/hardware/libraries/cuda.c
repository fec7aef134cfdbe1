/* Stands in for libcuda.so.1: device memory is main memory. SICK spoils a byte, FULL has no memory to give. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int is_ready, has_context, allocated;

int cuInit(unsigned flags) { is_ready = flags == 0; return 0; }
int cuDeviceGetByPCIBusId(int *to, const char *address) {
    if (!is_ready) return 3;
    if (strcmp(address, "0000:0a:00.0")) return 101;
    *to = 5;
    return 0;
}
int cuDevicePrimaryCtxRetain(void **to, int device) { *to = &has_context; return device == 5 ? 0 : 101; }
int cuDevicePrimaryCtxRelease_v2(int device) { return device == 5 && has_context && !allocated ? 0 : 201; }
int cuCtxSetCurrent(void *context) { has_context = context == &has_context; return has_context ? 0 : 201; }
int cuMemAlloc_v2(uint64_t *to, size_t size) {
    if (!has_context) return 201;
    if (getenv("FULL")) return 2;
    *to = (uint64_t)(uintptr_t)calloc(1, size);
    allocated++;
    return 0;
}
int cuMemFree_v2(uint64_t memory) { free((void *)(uintptr_t)memory); allocated--; return 0; }
int cuMemsetD8_v2(uint64_t memory, unsigned char value, size_t count) {
    memset((void *)(uintptr_t)memory, value, count);
    if (getenv("SICK")) ((char *)(uintptr_t)memory)[count / 2] ^= 1;
    return 0;
}
int cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size) { memcpy(to, (void *)(uintptr_t)from, size); return 0; }
int cuGetErrorString(int code, const char **to) { *to = code == 2 ? "out of memory" : NULL; return 0; }
