/* Stands in for libamdhip64.so: device memory is main memory. FULL has no memory to give. */
#include <stdlib.h>
#include <string.h>

static int current = -1;

int hipInit(unsigned flags) { return flags != 0; }
int hipDeviceGetByPCIBusId(int *to, const char *address) { *to = 2; return strcmp(address, "0000:0b:00.0") ? 101 : 0; }
int hipSetDevice(int device) { current = device; return device == 2 ? 0 : 101; }
int hipMalloc(void **to, size_t size) {
    if (current != 2 || getenv("FULL")) return 2;
    *to = malloc(size);
    return 0;
}
int hipFree(void *memory) { free(memory); return 0; }
int hipMemset(void *memory, int value, size_t count) { memset(memory, value, count); return 0; }
int hipMemcpy(void *to, const void *from, size_t size, int kind) { memcpy(to, from, size); return kind == 2 ? 0 : 21; }
const char *hipGetErrorString(int code) { return code == 2 ? "out of memory" : "other"; }
