/* A stand-in for ROCm's libamd_smi.so that the real amdsmi package runs on, without a GPU or ROCm's headers.
 *
 * Layouts are those of amdsmi 7.0 (include/amd_smi/amdsmi.h), as its ctypes classes show them. Functions that are not
 * written here are generated as "not supported" by amd_smi.py. What it pretends is in the environment variable
 * FAKE_AMDSMI, "key=value" separated by commas:
 *
 *   mode       ok | no_driver | kfd_hidden | render_closed | hang | crash | sentinels | no_memory
 *   gpus       how many (1)              device, revision, units, gfx    of each, numbers in C notation
 *   memory     bytes of each             used       bytes in use of each
 *   compute    SPX ...; "" not supported memory_mode NPS1 ...
 *   nodes      forward | reverse         whether KFD nodes follow the PCI order
 *   render     first render minor (128)
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, NOT_SUPPORTED = 2, FILE_ERROR = 14, NOT_INIT = 32, DRIVER_NOT_LOADED = 34 };

typedef struct {
  char market_name[256]; uint32_t vendor_id; char vendor_name[256]; uint32_t subvendor_id; uint64_t device_id;
  uint32_t rev_id; char asic_serial[256]; uint32_t oam_id; uint32_t num_compute_units; uint32_t pad;
  uint64_t target_graphics_version; uint32_t subsystem_id; uint32_t reserved[21];
} asic_info_t;
typedef struct {
  uint32_t type; char vendor[256]; uint32_t pad; uint64_t size_mib; uint32_t bit_width; uint32_t pad2;
  uint64_t max_bandwidth; uint64_t reserved[37];
} vram_info_t;
typedef struct { uint32_t total_mib, used_mib, reserved[2]; } vram_usage_t;
typedef struct { uint64_t kfd_id; uint32_t node_id, partition_id, reserved[12]; } kfd_info_t;
typedef struct { uint32_t drm_render, drm_card, hsa_id, hip_id; char hip_uuid[256]; } enumeration_info_t;

_Static_assert(sizeof(asic_info_t) == 896, "asic_info");
_Static_assert(sizeof(vram_info_t) == 584, "vram_info");
_Static_assert(sizeof(vram_usage_t) == 16, "vram_usage");
_Static_assert(sizeof(kfd_info_t) == 64, "kfd_info");
_Static_assert(sizeof(enumeration_info_t) == 272, "enumeration_info");

/* The value of a key in FAKE_AMDSMI, or the fallback. */
static const char *option(const char *key, const char *fallback) {
  static char values[16][64];
  static int next;
  const char *at = getenv("FAKE_AMDSMI");
  size_t length = strlen(key);
  while (at != NULL && *at != '\0') {
    if (strncmp(at, key, length) == 0 && at[length] == '=') {
      char *value = values[next++ % 16];
      size_t size = strcspn(at + length + 1, ",");
      snprintf(value, 64, "%.*s", (int)(size < 63 ? size : 63), at + length + 1);
      return value;
    }
    at = strchr(at, ',');
    if (at != NULL) at++;
  }
  return fallback;
}

static uint64_t number(const char *key, const char *fallback) { return strtoull(option(key, fallback), NULL, 0); }
static bool mode(const char *name) { return strcmp(option("mode", "ok"), name) == 0; }
static uint32_t count(void) { return (uint32_t)number("gpus", "1"); }
static uint64_t memory(void) { return number("memory", "206141652992"); }

/* A handle is the GPU's position in PCI order plus one. A NULL or foreign handle would be a bug of the caller. */
static uint32_t position(void *handle) { return (uint32_t)(uintptr_t)handle - 1; }
static uint32_t node(void *handle) {
  uint32_t first = 2; /* two CPU sockets come first */
  return strcmp(option("nodes", "forward"), "reverse") == 0 ? first + count() - 1 - position(handle)
                                                             : first + position(handle);
}

uint32_t amdsmi_init(uint64_t flags) {
  (void)flags;
  puts("chatter of the library on stdout");
  fflush(stdout);
  if (mode("no_driver")) return DRIVER_NOT_LOADED;
  if (mode("kfd_hidden")) return NOT_INIT;
  if (mode("hang")) for (;;) pause();
  if (mode("crash")) abort();
  return OK;
}

uint32_t amdsmi_get_socket_handles(uint32_t *sockets, void **handles) {
  if (handles != NULL) for (uint32_t i = 0; i < *sockets; i++) handles[i] = (void *)(uintptr_t)(i + 1);
  else *sockets = count();
  return OK;
}

uint32_t amdsmi_get_processor_handles(void *socket, uint32_t *processors, void **handles) {
  if (handles != NULL) handles[0] = socket;
  else *processors = 1;
  return OK;
}

uint32_t amdsmi_get_gpu_asic_info(void *gpu, asic_info_t *info) {
  memset(info, 0, sizeof *info);
  if (mode("render_closed")) return FILE_ERROR;
  snprintf(info->market_name, sizeof info->market_name, "%s", option("name", "AMD Instinct MI300X"));
  snprintf(info->vendor_name, sizeof info->vendor_name, "Advanced Micro Devices, Inc. [AMD/ATI]");
  snprintf(info->asic_serial, sizeof info->asic_serial, "%016x", position(gpu) + 1);
  info->vendor_id = 0x1002;
  info->device_id = number("device", "0x74a1");
  info->rev_id = (uint32_t)number("revision", "0");
  info->num_compute_units = mode("sentinels") ? UINT32_MAX : (uint32_t)number("units", "304");
  info->target_graphics_version = mode("sentinels") ? UINT64_MAX : number("gfx", "0x942");
  info->oam_id = info->subsystem_id = UINT32_MAX;
  return OK;
}

uint32_t amdsmi_get_gpu_vram_info(void *gpu, vram_info_t *info) {
  (void)gpu;
  memset(info, 0, sizeof *info);
  if (mode("render_closed")) return FILE_ERROR;
  if (mode("no_memory")) return NOT_SUPPORTED;
  info->type = 4;
  info->size_mib = memory() >> 20;
  info->bit_width = 8192;
  return OK;
}

uint32_t amdsmi_get_gpu_vram_usage(void *gpu, vram_usage_t *usage) {
  (void)gpu;
  memset(usage, 0, sizeof *usage);
  if (mode("no_memory")) return NOT_SUPPORTED;
  usage->total_mib = mode("sentinels") ? UINT32_MAX : (uint32_t)(memory() >> 20);
  usage->used_mib = mode("sentinels") ? UINT32_MAX : (uint32_t)(number("used", "0") >> 20);
  return OK;
}

uint32_t amdsmi_get_gpu_memory_total(void *gpu, uint32_t type, uint64_t *total) {
  (void)gpu;
  if (type != 0 || mode("no_memory")) return NOT_SUPPORTED;
  *total = mode("sentinels") ? UINT64_MAX : memory();
  return OK;
}

uint32_t amdsmi_get_gpu_memory_usage(void *gpu, uint32_t type, uint64_t *used) {
  (void)gpu;
  if (type != 0 || mode("no_memory")) return NOT_SUPPORTED;
  *used = mode("sentinels") ? UINT64_MAX : number("used", "0");
  return OK;
}

uint32_t amdsmi_get_gpu_kfd_info(void *gpu, kfd_info_t *info) {
  memset(info, 0, sizeof *info);
  info->kfd_id = 0x1000 + position(gpu);
  info->node_id = mode("sentinels") ? UINT32_MAX : node(gpu);
  return OK;
}

uint32_t amdsmi_get_gpu_enumeration_info(void *gpu, enumeration_info_t *info) {
  memset(info, 0, sizeof *info);
  info->drm_render = mode("sentinels") ? UINT32_MAX : (uint32_t)number("render", "128") + 8 * position(gpu);
  info->drm_card = position(gpu);
  info->hip_id = node(gpu) - 2;
  return OK;
}

uint32_t amdsmi_get_gpu_device_bdf(void *gpu, uint64_t *bdf) {
  *bdf = (uint64_t)(0x05 + 0x10 * position(gpu)) << 8;
  return OK;
}

uint32_t amdsmi_get_gpu_device_uuid(void *gpu, uint32_t *length, char *uuid) {
  snprintf(uuid, *length, "%02xff74a1-0000-1000-8000-%012x", position(gpu) + 1, position(gpu) + 1);
  return OK;
}

static uint32_t partition(const char *value, char *text, uint32_t length) {
  if (*value == '\0') return NOT_SUPPORTED;
  snprintf(text, length, "%s", value);
  return OK;
}

uint32_t amdsmi_get_gpu_compute_partition(void *gpu, char *text, uint32_t length) {
  (void)gpu;
  return partition(option("compute", "SPX"), text, length);
}

uint32_t amdsmi_get_gpu_memory_partition(void *gpu, char *text, uint32_t length) {
  (void)gpu;
  return partition(option("memory_mode", "NPS1"), text, length);
}

uint32_t amdsmi_topo_get_numa_node_number(void *gpu, uint32_t *numa) {
  *numa = mode("sentinels") ? UINT32_MAX : position(gpu) / 4;
  return OK;
}

uint32_t amdsmi_status_code_to_string(uint32_t status, const char **text) {
  (void)status;
  *text = "a status of the stand-in";
  return OK;
}
