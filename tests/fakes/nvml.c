/* A stand-in for NVIDIA's libnvidia-ml.so.1 that the real nvidia-ml-py runs on. FAKE_NVML, "key=value" separated by
 * commas, says what it pretends: code (what nvmlInit returns, 0), gpus (1), hang (1: nvmlInit never returns), used
 * (bytes in use of each), mixed (1: the last one is another product). Functions that are not here are "not found", as
 * in an older driver. Layouts: nvml.h, as the binding's ctypes classes show them.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3 };
typedef struct { uint64_t total, free, used; } memory_t;
typedef struct {
  char busIdLegacy[16]; uint32_t domain, bus, device, pciDeviceId, pciSubSystemId; char busId[32];
} pci_t;

static uint64_t option(const char *key, uint64_t fallback) {
  const char *at = getenv("FAKE_NVML");
  size_t length = strlen(key);
  for (; at != NULL && *at != '\0'; at = strchr(at, ','), at = at == NULL ? NULL : at + 1)
    if (strncmp(at, key, length) == 0 && at[length] == '=') return strtoull(at + length + 1, NULL, 0);
  return fallback;
}
static unsigned position(void *gpu) { return (unsigned)(uintptr_t)gpu - 1; }

int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  puts("chatter of the library on stdout");
  fflush(stdout);
  if (option("hang", 0)) for (;;) pause();
  return (int)option("code", 0);
}
const char *nvmlErrorString(int code) { (void)code; return "an error of the stand-in"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "570.86.10"); return SUCCESS; }
int nvmlSystemGetNVMLVersion(char *text, unsigned size) { snprintf(text, size, "12.570.86.10"); return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = (unsigned)option("gpus", 1); return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **gpu) { *gpu = (void *)(uintptr_t)(index + 1); return SUCCESS; }
int nvmlDeviceGetName(void *gpu, char *text, unsigned size) {
  int other = option("mixed", 0) && position(gpu) + 1 == option("gpus", 1);
  snprintf(text, size, other ? "NVIDIA L4" : "NVIDIA H200");
  return SUCCESS;
}
int nvmlDeviceGetUUID(void *gpu, char *text, unsigned size) {
  snprintf(text, size, "GPU-%08x-0000-0000-0000-000000000000", position(gpu) + 1);
  return SUCCESS;
}
int nvmlDeviceGetMemoryInfo(void *gpu, memory_t *sizes) {
  (void)gpu;
  sizes->total = 150754820096;
  sizes->used = option("used", 0);
  sizes->free = sizes->total - sizes->used;
  return SUCCESS;
}
int nvmlDeviceGetPciInfo_v3(void *gpu, pci_t *info) {
  memset(info, 0, sizeof *info);
  snprintf(info->busId, sizeof info->busId, "00000000:%02X:00.0", 0x3b + position(gpu));
  info->pciDeviceId = 0x233510de;
  return SUCCESS;
}
int nvmlDeviceGetMinorNumber(void *gpu, unsigned *minor) { *minor = position(gpu); return SUCCESS; }
int nvmlDeviceGetCudaComputeCapability(void *gpu, int *major, int *minor) { (void)gpu; *major = 9; *minor = 0; return SUCCESS; }
