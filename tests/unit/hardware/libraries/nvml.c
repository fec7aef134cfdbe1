/* Stands in for libnvidia-ml.so.1: one device, after the declarations in the documentation of NVML. */
#include <stdint.h>
#include <string.h>

typedef struct { char busIdLegacy[16]; unsigned domain, bus, device, pciDeviceId, pciSubSystemId; char busId[32]; } pci_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned gpu, memory; } utilization_t;

static int is_ready;
static int device;

int nvmlInit_v2(void) { is_ready = 1; return 0; }
int nvmlInitWithFlags(unsigned flags) { (void)flags; is_ready = 1; return 0; }
int nvmlShutdown(void) { is_ready = 0; return 0; }
const char *nvmlErrorString(int code) { return code == 1 ? "Uninitialized" : "Some error"; }
static int text(char *to, unsigned length, const char *from) {
    if (!is_ready) return 1;
    if (strlen(from) >= length) return 7;
    strcpy(to, from);
    return 0;
}
int nvmlSystemGetDriverVersion(char *to, unsigned length) { return text(to, length, "550.54.14"); }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return is_ready ? 0 : 1; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = &device; return index ? 2 : 0; }
int nvmlDeviceGetName(void *h, char *to, unsigned length) { return h == &device ? text(to, length, "NVIDIA Compiled") : 2; }
int nvmlDeviceGetUUID(void *h, char *to, unsigned length) { return h == &device ? text(to, length, "GPU-compiled") : 2; }
int nvmlDeviceGetPciInfo_v3(void *h, pci_t *to) {
    memset(to, 0, sizeof *to);
    strcpy(to->busIdLegacy, "0000:0A:00.0");
    strcpy(to->busId, "00000000:0A:00.0");
    to->bus = 10;
    return h == &device ? 0 : 2;
}
int nvmlDeviceGetMemoryInfo(void *h, memory_t *to) {
    to->total = 8589934592ull;
    to->free = 6442450944ull;
    to->used = 2147483648ull;
    return h == &device ? 0 : 2;
}
int nvmlDeviceGetNumGpuCores(void *h, unsigned *to) { (void)h; *to = 2560; return 0; }
int nvmlDeviceGetMinorNumber(void *h, unsigned *to) { (void)h; *to = 3; return 0; }
int nvmlDeviceGetUtilizationRates(void *h, utilization_t *to) { (void)h; to->gpu = 42; to->memory = 7; return 0; }
int nvmlDeviceGetMigMode(void *h, unsigned *now, unsigned *next) { (void)h; *now = *next = 0; return 3; }
