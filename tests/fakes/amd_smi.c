/* A stand-in for ROCm's libamd_smi.so that the real amdsmi packages run on, without a GPU or ROCm's headers.
 *
 * GENERATION is 6 or 7: the struct layouts of amdsmi 6.4 or 7.0, as the ctypes classes of those packages show them.
 * Functions that are not written here are generated as "not supported" by amd_smi.py. What it pretends is in the file
 * that the environment variable FAKE_AMDSMI names: words "key=value" separated by blanks, one line for the host and
 * one for each GPU, in PCI order. Numbers are in C notation, so that -1 is a leaked "not available".
 *
 *   host  driver=6.14.14  fail=init:34  hang=init  crash=init
 *   gpu   bdf=0000:05:00.0 name=AMD_Instinct_MI300X device=0x74a1 revision=0 units=304 gfx=0x942 memory=BYTES
 *         used=BYTES node=2 partition=0 compute=SPX memory_mode=NPS1 render=128 numa=0 serial=0123456789abcdef
 *         uuid=... vbios=... rlc=NUMBER hive=0  holders=PID:NAME:BYTES,PID::BYTES
 *         fail=asic_info:14,vram_info:14  hang=process_list  crash=fw_info
 *
 * fail, hang and crash name the function without "amdsmi_get_gpu_" or "amdsmi_". A key that is absent gives 0 or
 * "not supported". GPUs of one hive are one XGMI hop apart, others two PCIe hops.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, NOT_SUPPORTED = 2, LINK_PCIE = 1, LINK_XGMI = 2, FW_RLC = 9 };

typedef struct {
  char market_name[256]; uint32_t vendor_id; char vendor_name[256]; uint32_t subvendor_id; uint64_t device_id;
  uint32_t rev_id; char asic_serial[256]; uint32_t oam_id; uint32_t num_compute_units; uint32_t pad;
  uint64_t target_graphics_version; uint32_t subsystem_id; uint32_t reserved[21];
} asic_info_t;
#if GENERATION == 6
typedef struct {
  uint32_t type, vendor; uint64_t size_mib; uint32_t bit_width, pad; uint64_t max_bandwidth, reserved[4];
} vram_info_t;
typedef struct { char name[256], build_date[32], part_number[256], version[256], reserved[256]; } vbios_info_t;
typedef struct { uint32_t year, major, minor, release; const char *build; } version_t;
_Static_assert(sizeof(vram_info_t) == 64 && sizeof(vbios_info_t) == 1056, "6.4");
static const version_t VERSION = {25, 25, 5, 1, "stand-in"};
#else
typedef struct {
  uint32_t type; char vendor[256]; uint32_t pad; uint64_t size_mib; uint32_t bit_width; uint32_t pad2;
  uint64_t max_bandwidth; uint64_t reserved[37];
} vram_info_t;
typedef struct { char name[256], build_date[256], part_number[256], version[256], reserved[544]; } vbios_info_t;
typedef struct { uint32_t major, minor, release, pad; const char *build; } version_t;
_Static_assert(sizeof(vram_info_t) == 584 && sizeof(vbios_info_t) == 1568, "7.0");
static const version_t VERSION = {26, 0, 2, 0, "stand-in"};
#endif
typedef struct { uint32_t total_mib, used_mib, reserved[2]; } vram_usage_t;
typedef struct { uint64_t kfd_id; uint32_t node_id, partition_id, reserved[12]; } kfd_info_t;
typedef struct { uint32_t drm_render, drm_card, hsa_id, hip_id; char hip_uuid[256]; } enumeration_info_t;
typedef struct { char version[256], date[256], name[256]; } driver_info_t;
typedef struct {
  char name[256]; uint32_t pid, pad; uint64_t memory, engine_usage[8], gtt, cpu, vram, more[5]; char container[256];
  uint32_t cu_occupancy, reserved[11];
} process_t;
typedef struct { uint32_t id, pad; uint64_t version, reserved[2]; } firmware_t;
typedef struct { uint8_t count, pad[7]; firmware_t list[80]; uint64_t reserved[4]; } firmware_info_t;
typedef struct { uint32_t type, partitions, caps, index, resources, more[257]; uint64_t reserved[15]; } profile_t;

_Static_assert(sizeof(asic_info_t) == 896 && sizeof(vram_usage_t) == 16 && sizeof(kfd_info_t) == 64, "sizes");
_Static_assert(sizeof(enumeration_info_t) == 272 && sizeof(driver_info_t) == 768 && sizeof(version_t) == 24, "sizes");
_Static_assert(sizeof(process_t) == 704 && sizeof(firmware_info_t) == 2600, "sizes");

/* The lines of the description: the host's first. */
static char lines[256][1024];
static uint32_t gpus;

static void read_description(void) {
  static bool done;
  const char *path = getenv("FAKE_AMDSMI");
  FILE *file = done || path == NULL ? NULL : fopen(path, "r");
  done = true;
  if (file == NULL) return;
  for (char line[1024]; fgets(line, sizeof line, file) != NULL && gpus < 255;) {
    line[strcspn(line, "\n")] = ' '; /* every word ends with a blank */
    if (strncmp(line, "host ", 5) == 0) strcpy(lines[0], line);
    if (strncmp(line, "gpu ", 4) == 0) strcpy(lines[++gpus], line);
  }
  fclose(file);
}

/* A handle points at the GPU's line, a socket at the line of its first GPU. */
static void *handle(uint32_t gpu) { return lines[gpu]; }
static uint32_t position(const void *gpu) { return (uint32_t)(((const char *)gpu - lines[0]) / 1024) - 1; }

/* The value of a key, or NULL; it stays good for the next 15 questions. */
static const char *find(const void *line, const char *key) {
  static char values[16][512];
  static int next;
  char wanted[64];
  snprintf(wanted, sizeof wanted, " %s=", key);
  const char *at = strstr(line, wanted);
  if (at == NULL) return NULL;
  at += strlen(wanted);
  char *value = values[next++ % 16];
  snprintf(value, 512, "%.*s", (int)strcspn(at, " "), at);
  return value;
}

static const char *text(const void *line, const char *key) {
  const char *value = find(line, key);
  return value != NULL ? value : "";
}
static uint64_t number(const void *line, const char *key) { return strtoull(text(line, key), NULL, 0); }

/* Where `name` is in a list "name:14,other" of the line under `key`: what follows the name, or NULL. */
static const char *listed(const void *line, const char *key, const char *name) {
  for (const char *at = find(line, key); at != NULL && *at != '\0'; at += strcspn(at, ","), at += *at == ',')
    if (strncmp(at, name, strlen(name)) == 0 && strchr(":,", at[strlen(name)]) != NULL) return at + strlen(name);
  return NULL;
}

/* Every function begins with this: the failure that the description has for it, else OK. */
static uint32_t trouble(const void *line, const char *name) {
  const char *status = listed(line, "fail", name);
  if (listed(line, "hang", name) != NULL) for (;;) pause();
  if (listed(line, "crash", name) != NULL) abort();
  return status != NULL ? (uint32_t)strtoul(status + 1, NULL, 0) : OK;
}
#define ASKED(line, name) do { uint32_t status_ = trouble(line, name); if (status_ != OK) return status_; } while (0)
#define ASKED_FOR(line, name, answer) \
  do { memset(answer, 0, sizeof *(answer)); ASKED(line, name); } while (0)

static void copy(char *to, size_t size, const char *from, char blank) {
  snprintf(to, size, "%s", from);
  for (; *to != '\0'; to++) if (*to == blank) *to = ' ';
}

uint32_t amdsmi_init(uint64_t flags) {
  (void)flags;
  read_description();
  puts("chatter of the library on stdout");
  fflush(stdout);
  return trouble(lines[0], "init");
}

uint32_t amdsmi_get_lib_version(version_t *version) {
  ASKED(lines[0], "lib_version");
  *version = VERSION;
  return OK;
}

/* The partitions of a package are one socket: their addresses differ in the function's digit only. */
static bool same_package(uint32_t one, uint32_t other) {
  char address[512];
  snprintf(address, sizeof address, "%s", text(lines[one], "bdf"));
  return strncmp(address, text(lines[other], "bdf"), strcspn(address, ".")) == 0;
}

uint32_t amdsmi_get_socket_handles(uint32_t *count, void **sockets) {
  uint32_t found = 0;
  ASKED(lines[0], "socket_handles");
  for (uint32_t gpu = 1; gpu <= gpus; gpu++) {
    if (gpu > 1 && same_package(gpu - 1, gpu)) continue;
    if (sockets != NULL) sockets[found] = handle(gpu);
    found++;
  }
  *count = found;
  return OK;
}

uint32_t amdsmi_get_processor_handles(void *socket, uint32_t *count, void **processors) {
  uint32_t first = position(socket) + 1, found = 0;
  for (uint32_t gpu = first; gpu <= gpus && same_package(first, gpu); gpu++, found++)
    if (processors != NULL) processors[found] = handle(gpu);
  *count = found;
  return OK;
}

uint32_t amdsmi_get_gpu_asic_info(void *gpu, asic_info_t *info) {
  ASKED_FOR(gpu, "asic_info", info);
  copy(info->market_name, sizeof info->market_name, text(gpu, "name"), '_');
  copy(info->vendor_name, sizeof info->vendor_name, "Advanced Micro Devices, Inc. [AMD/ATI]", '_');
  copy(info->asic_serial, sizeof info->asic_serial, text(gpu, "serial"), '_');
  info->vendor_id = 0x1002;
  info->device_id = number(gpu, "device");
  info->rev_id = (uint32_t)number(gpu, "revision");
  info->num_compute_units = (uint32_t)number(gpu, "units");
  info->target_graphics_version = number(gpu, "gfx");
  info->oam_id = UINT32_MAX;
  info->subsystem_id = GENERATION == 6 ? 0 : UINT32_MAX;
  return OK;
}

/* The three sources of the memory's size: each can be refused by itself. */
uint32_t amdsmi_get_gpu_vram_info(void *gpu, vram_info_t *info) {
  ASKED_FOR(gpu, "vram_info", info);
  info->type = 4;
  info->size_mib = number(gpu, "memory") >> 20;
  info->bit_width = 8192;
  return OK;
}

uint32_t amdsmi_get_gpu_vram_usage(void *gpu, vram_usage_t *usage) {
  ASKED_FOR(gpu, "vram_usage", usage);
  usage->total_mib = (uint32_t)(number(gpu, "memory") >> 20);
  usage->used_mib = (uint32_t)(number(gpu, "used") >> 20);
  return OK;
}

uint32_t amdsmi_get_gpu_memory_total(void *gpu, uint32_t type, uint64_t *total) {
  ASKED_FOR(gpu, "memory_total", total);
  if (type != 0) return NOT_SUPPORTED;
  *total = number(gpu, "memory");
  return OK;
}

uint32_t amdsmi_get_gpu_memory_usage(void *gpu, uint32_t type, uint64_t *used) {
  ASKED_FOR(gpu, "memory_usage", used);
  if (type != 0) return NOT_SUPPORTED;
  *used = number(gpu, "used");
  return OK;
}

uint32_t amdsmi_get_gpu_kfd_info(void *gpu, kfd_info_t *info) {
  ASKED_FOR(gpu, "kfd_info", info);
  info->kfd_id = 0x1000 + position(gpu);
  info->node_id = (uint32_t)number(gpu, "node");
  info->partition_id = (uint32_t)number(gpu, "partition");
  return OK;
}

uint32_t amdsmi_get_gpu_enumeration_info(void *gpu, enumeration_info_t *info) {
  ASKED_FOR(gpu, "enumeration_info", info);
  info->drm_render = (uint32_t)number(gpu, "render");
  info->drm_card = position(gpu);
  return OK;
}

uint32_t amdsmi_get_gpu_device_bdf(void *gpu, uint64_t *bdf) {
  unsigned domain = 0, bus = 0, device = 0, function = 0;
  ASKED_FOR(gpu, "device_bdf", bdf);
  sscanf(text(gpu, "bdf"), "%x:%x:%x.%x", &domain, &bus, &device, &function);
  *bdf = (uint64_t)domain << 16 | bus << 8 | device << 3 | function;
  return OK;
}

uint32_t amdsmi_get_gpu_device_uuid(void *gpu, uint32_t *length, char *uuid) {
  ASKED(gpu, "device_uuid");
  copy(uuid, *length, text(gpu, "uuid"), '_');
  return *uuid != '\0' ? OK : NOT_SUPPORTED;
}

static uint32_t mode(const void *gpu, const char *key, char *to, uint32_t length) {
  if (find(gpu, key) == NULL) return NOT_SUPPORTED;
  copy(to, length, text(gpu, key), '_');
  return OK;
}

uint32_t amdsmi_get_gpu_compute_partition(void *gpu, char *to, uint32_t length) {
  ASKED(gpu, "compute_partition");
  return mode(gpu, "compute", to, length);
}

uint32_t amdsmi_get_gpu_memory_partition(void *gpu, char *to, uint32_t length) {
  ASKED(gpu, "memory_partition");
  return mode(gpu, "memory_mode", to, length);
}

uint32_t amdsmi_get_gpu_accelerator_partition_profile(void *gpu, profile_t *profile, uint32_t *ids) {
  static const char *const types[] = {"", "SPX", "DPX", "TPX", "QPX", "CPX"};
  ASKED(gpu, "accelerator_partition_profile");
  if (find(gpu, "compute") == NULL) return NOT_SUPPORTED;
  for (uint32_t type = 1; type < 6; type++)
    if (strcmp(types[type], text(gpu, "compute")) == 0) profile->type = type;
  ids[0] = (uint32_t)number(gpu, "partition");
  return OK;
}

uint32_t amdsmi_topo_get_numa_node_number(void *gpu, uint32_t *numa) {
  ASKED_FOR(gpu, "topo_get_numa_node_number", numa);
  *numa = (uint32_t)number(gpu, "numa");
  return OK;
}

uint32_t amdsmi_topo_get_link_type(void *from, void *to, uint64_t *hops, uint32_t *type) {
  bool near = find(from, "hive") != NULL && find(to, "hive") != NULL && number(from, "hive") == number(to, "hive");
  ASKED(from, "topo_get_link_type");
  *hops = near ? 1 : 2;
  *type = near ? LINK_XGMI : LINK_PCIE;
  return OK;
}

uint32_t amdsmi_get_gpu_driver_info(void *gpu, driver_info_t *info) {
  ASKED_FOR(gpu, "driver_info", info);
  copy(info->name, sizeof info->name, "amdgpu", '_');
  copy(info->version, sizeof info->version, text(lines[0], "driver"), '_');
  copy(info->date, sizeof info->date, "2015/01/01 00:00", '_');
  return OK;
}

uint32_t amdsmi_get_gpu_vbios_info(void *gpu, vbios_info_t *info) {
  ASKED_FOR(gpu, "vbios_info", info);
  if (find(gpu, "vbios") == NULL) return NOT_SUPPORTED;
  copy(info->version, sizeof info->version, text(gpu, "vbios"), '_');
  return OK;
}

uint32_t amdsmi_get_fw_info(void *gpu, firmware_info_t *info) {
  ASKED_FOR(gpu, "fw_info", info);
  if (find(gpu, "rlc") == NULL) return NOT_SUPPORTED;
  info->count = 1;
  info->list[0] = (firmware_t){.id = FW_RLC, .version = number(gpu, "rlc")};
  return OK;
}

uint32_t amdsmi_get_gpu_process_list(void *gpu, uint32_t *count, process_t *list) {
  uint32_t room = *count;
  *count = 0;
  ASKED(gpu, "process_list");
  for (const char *at = text(gpu, "holders"); *at != '\0' && *count < room; at += strcspn(at, ","), at += *at == ',') {
    process_t *process = &list[(*count)++];
    const char *name = strchr(at, ':') + 1;
    process->pid = (uint32_t)strtoul(at, NULL, 0);
    snprintf(process->name, sizeof process->name, "%.*s", (int)strcspn(name, ":"), name);
    process->memory = process->vram = strtoull(name + strcspn(name, ":") + 1, NULL, 0);
    process->cu_occupancy = UINT32_MAX;
  }
  return OK;
}

uint32_t amdsmi_status_code_to_string(uint32_t status, const char **words) {
  (void)status;
  *words = "a status of the stand-in";
  return OK;
}
