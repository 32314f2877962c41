/* Copyright: (c) 2026, compute_plane.vllm contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A substitute for libnvidia-ml.so.1 that answers NVML's queries about a machine described by an
 * ini file. For tests on machines without an NVIDIA GPU; it controls nothing.
 *
 * Functions and structures: https://docs.nvidia.com/deploy/nvml-api/index.html
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "machine.h"

/* nvmlReturn_t */
enum {
  SUCCESS = 0,
  UNINITIALIZED = 1,
  INVALID_ARGUMENT = 2,
  ERROR_NOT_SUPPORTED = 3,
  NO_PERMISSION = 4,
  NOT_FOUND = 6,
  INSUFFICIENT_SIZE = 7,
  DRIVER_NOT_LOADED = 9,
  TIMEOUT = 10,
  GPU_IS_LOST = 15,
  LIB_RM_VERSION_MISMATCH = 18,
  ARGUMENT_VERSION_MISMATCH = 25
};

typedef struct gpu *device;

struct memory_v1 {
  unsigned long long total, free, used;
};
struct memory_v2 {
  unsigned version;
  unsigned long long total, reserved, free, used;
};
struct pci_info {
  char legacy_id[16];
  unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
  char id[32];
};
struct process_info {
  unsigned pid;
  unsigned long long memory;
  unsigned gpu_instance, compute_instance;
};
struct utilization {
  unsigned gpu, memory;
};

static struct machine machine;
static unsigned users; /* successful nvmlInit calls without their nvmlShutdown */

static int text(const char *from, char *to, unsigned length) {
  if (to == NULL) return INVALID_ARGUMENT;
  if (strlen(from) + 1 > length) return INSUFFICIENT_SIZE;
  strcpy(to, from);
  return SUCCESS;
}

/* Every query about a GPU starts with this. */
static int check(device gpu) {
  if (users == 0) return UNINITIALIZED;
  if (gpu < machine.gpus || gpu >= machine.gpus + machine.gpu_count) return INVALID_ARGUMENT;
  return gpu->lost ? GPU_IS_LOST : SUCCESS;
}
#define CHECK(gpu)                              \
  do {                                          \
    int failed = check(gpu);                    \
    if (failed != SUCCESS) return failed;       \
  } while (0)

/* A query that answers one number. */
#define NUMBER(function, type, expression)      \
  int function(device gpu, type *answer) {      \
    CHECK(gpu);                                 \
    *answer = (type)(expression);               \
    return SUCCESS;                             \
  }

int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  if (users == 0) {
    if (read_machine(&machine) != 0) return DRIVER_NOT_LOADED;
    int result = act(machine.nvml);
    if (result != SUCCESS) return result;
    if (strcmp(machine.driver, machine.library) != 0) return LIB_RM_VERSION_MISMATCH;
  }
  users++;
  return SUCCESS;
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void) {
  if (users == 0) return UNINITIALIZED;
  users--;
  return SUCCESS;
}

const char *nvmlErrorString(int result) {
  switch (result) {
    case SUCCESS: return "Success";
    case UNINITIALIZED: return "Uninitialized";
    case INVALID_ARGUMENT: return "Invalid Argument";
    case ERROR_NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case INSUFFICIENT_SIZE: return "Insufficient Size";
    case DRIVER_NOT_LOADED: return "Driver Not Loaded";
    case TIMEOUT: return "Timeout";
    case GPU_IS_LOST: return "GPU is lost";
    case LIB_RM_VERSION_MISMATCH: return "Driver/library version mismatch";
    case ARGUMENT_VERSION_MISMATCH: return "Argument version mismatch";
    default: return "Unknown Error";
  }
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
  return users == 0 ? UNINITIALIZED : text(machine.driver, version, length);
}

/* Answers without nvmlInit, as NVIDIA's does. */
int nvmlSystemGetNVMLVersion(char *version, unsigned length) {
  struct machine now;
  char full[NAME_LENGTH + 8];
  if (read_machine(&now) != 0) return DRIVER_NOT_LOADED;
  snprintf(full, sizeof full, "%d.%s", now.cuda / 1000, now.library);
  return text(full, version, length);
}

int nvmlSystemGetCudaDriverVersion(int *version) {
  if (users == 0) return UNINITIALIZED;
  *version = machine.cuda;
  return SUCCESS;
}
int nvmlSystemGetCudaDriverVersion_v2(int *version) {
  return nvmlSystemGetCudaDriverVersion(version);
}

int nvmlSystemGetProcessName(unsigned pid, char *name, unsigned length) {
  for (unsigned i = 0; i < machine.gpu_count; i++)
    for (unsigned k = 0; k < machine.gpus[i].process_count; k++)
      if (machine.gpus[i].processes[k].pid == pid)
        return text(machine.gpus[i].processes[k].name, name, length);
  return NOT_FOUND;
}

int nvmlDeviceGetCount_v2(unsigned *count) {
  if (users == 0) return UNINITIALIZED;
  *count = machine.gpu_count;
  return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, device *gpu) {
  if (users == 0) return UNINITIALIZED;
  if (index >= machine.gpu_count) return INVALID_ARGUMENT;
  *gpu = &machine.gpus[index];
  return check(*gpu);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, device *gpu) {
  if (users == 0) return UNINITIALIZED;
  for (unsigned i = 0; i < machine.gpu_count; i++)
    if (strcmp(uuid, machine.gpus[i].uuid) == 0) {
      *gpu = &machine.gpus[i];
      return check(*gpu);
    }
  return NOT_FOUND;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, device *gpu) {
  if (users == 0) return UNINITIALIZED;
  for (unsigned i = 0; i < machine.gpu_count; i++)
    if (strcasecmp(bus, machine.gpus[i].bus) == 0) {
      *gpu = &machine.gpus[i];
      return check(*gpu);
    }
  return NOT_FOUND;
}

int nvmlDeviceGetName(device gpu, char *name, unsigned length) {
  CHECK(gpu);
  return text(gpu->name, name, length);
}

int nvmlDeviceGetUUID(device gpu, char *uuid, unsigned length) {
  CHECK(gpu);
  return text(gpu->uuid, uuid, length);
}

int nvmlDeviceGetPciInfo_v3(device gpu, struct pci_info *info) {
  CHECK(gpu);
  memset(info, 0, sizeof *info);
  snprintf(info->id, sizeof info->id, "%s", gpu->bus);
  snprintf(info->legacy_id, sizeof info->legacy_id, "%.12s", gpu->bus + 4);
  sscanf(gpu->bus, "%x:%x:%x", &info->domain, &info->bus, &info->device);
  info->pci_device_id = gpu->pci_device << 16 | 0x10de;
  return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(device gpu, struct memory_v1 *memory) {
  CHECK(gpu);
  memory->total = gpu->memory;
  memory->used = gpu->used + gpu->reserved;
  memory->free = memory->total - memory->used;
  return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(device gpu, struct memory_v2 *memory) {
  CHECK(gpu);
  if (memory->version != (sizeof *memory | 2 << 24)) return ARGUMENT_VERSION_MISMATCH;
  memory->total = gpu->memory;
  memory->reserved = gpu->reserved;
  memory->used = gpu->used;
  memory->free = gpu->memory - gpu->reserved - gpu->used;
  return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(device gpu, int *major, int *minor) {
  CHECK(gpu);
  *major = gpu->capability_major;
  *minor = gpu->capability_minor;
  return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(device gpu, struct utilization *rates) {
  CHECK(gpu);
  rates->gpu = gpu->utilization;
  rates->memory = 0;
  return SUCCESS;
}

int nvmlDeviceGetTemperature(device gpu, unsigned sensor, unsigned *celsius) {
  (void)sensor;
  CHECK(gpu);
  *celsius = gpu->temperature;
  return SUCCESS;
}

int nvmlDeviceGetTemperatureThreshold(device gpu, unsigned threshold, unsigned *celsius) {
  CHECK(gpu);
  /* nvmlTemperatureThresholds_t: 0 is SHUTDOWN, 1 SLOWDOWN. */
  if (threshold > 1) return ERROR_NOT_SUPPORTED;
  *celsius = threshold == 0 ? 98 : 93;
  return SUCCESS;
}

int nvmlDeviceGetPowerManagementLimitConstraints(device gpu, unsigned *least, unsigned *most) {
  CHECK(gpu);
  if (gpu->power_most == 0) return ERROR_NOT_SUPPORTED;
  *least = gpu->power_least * 1000;
  *most = gpu->power_most * 1000;
  return SUCCESS;
}

int nvmlDeviceGetPowerManagementDefaultLimit(device gpu, unsigned *limit) {
  CHECK(gpu);
  if (gpu->power_most == 0) return ERROR_NOT_SUPPORTED;
  *limit = gpu->power_default * 1000;
  return SUCCESS;
}

int nvmlDeviceSetPowerManagementLimit(device gpu, unsigned limit) {
  CHECK(gpu);
  if (gpu->power_most == 0) return ERROR_NOT_SUPPORTED;
  if (limit < gpu->power_least * 1000 || limit > gpu->power_most * 1000) return INVALID_ARGUMENT;
  /* Only root may; here, whoever may write where it is kept. */
  if (keep_setting(gpu, "power_set_watts", limit / 1000) != 0) return NO_PERMISSION;
  gpu->power_limit = limit / 1000;
  return SUCCESS;
}

int nvmlDeviceSetPersistenceMode(device gpu, unsigned mode) {
  CHECK(gpu);
  if (keep_setting(gpu, "persistence", mode) != 0) return NO_PERMISSION;
  gpu->persistence = (int)mode;
  return SUCCESS;
}

struct field_value {
  unsigned id, scope;
  long long timestamp, latency;
  unsigned type;
  int result;
  union {
    unsigned number;
    unsigned long long large;
  } value;
};

int nvmlDeviceGetFieldValues(device gpu, int count, struct field_value *values) {
  CHECK(gpu);
  for (int i = 0; i < count; i++) {
    values[i].result = values[i].id == 230 ? SUCCESS : ERROR_NOT_SUPPORTED;
    values[i].value.number = gpu->recovery_action; /* NVML_FI_DEV_GET_GPU_RECOVERY_ACTION */
  }
  return SUCCESS;
}

/* Events: one set is enough. */
struct event {
  device gpu;
  unsigned long long type, data;
  unsigned gpu_instance, compute_instance;
};
static unsigned listens, told; /* a bit for each GPU */
enum { XID_CRITICAL_ERROR = 8 };

int nvmlEventSetCreate(void **set) {
  if (users == 0) return UNINITIALIZED;
  *set = &listens;
  return SUCCESS;
}

int nvmlDeviceRegisterEvents(device gpu, unsigned long long types, void *set) {
  CHECK(gpu);
  if (set != &listens || (types & ~8ULL) != 0) return INVALID_ARGUMENT;
  listens |= 1u << gpu->index;
  return SUCCESS;
}

/* What happens on a real card happens here by editing the ini file: it is read anew. */
int nvmlEventSetWait_v2(void *set, struct event *event, unsigned milliseconds) {
  (void)milliseconds;
  if (users == 0) return UNINITIALIZED;
  if (set != &listens) return INVALID_ARGUMENT;
  struct machine now;
  if (read_machine(&now) != 0) return UNINITIALIZED;
  for (unsigned i = 0; i < now.gpu_count && i < machine.gpu_count; i++) {
    machine.gpus[i].lost = now.gpus[i].lost;
    machine.gpus[i].recovery_action = now.gpus[i].recovery_action;
    machine.gpus[i].temperature = now.gpus[i].temperature;
    unsigned bit = 1u << i;
    if (now.gpus[i].xid == 0 || !(listens & bit) || (told & bit)) continue;
    told |= bit;
    memset(event, 0, sizeof *event);
    event->gpu = &machine.gpus[i];
    event->type = XID_CRITICAL_ERROR;
    event->data = now.gpus[i].xid;
    return SUCCESS;
  }
  return TIMEOUT;
}

NUMBER(nvmlDeviceGetIndex, unsigned, gpu->index)
NUMBER(nvmlDeviceGetMinorNumber, unsigned, gpu->index)
NUMBER(nvmlDeviceGetPowerUsage, unsigned, gpu->power_limit * 100)
NUMBER(nvmlDeviceGetPowerManagementLimit, unsigned, gpu->power_limit * 1000)
NUMBER(nvmlDeviceGetEnforcedPowerLimit, unsigned, gpu->power_limit * 1000)
NUMBER(nvmlDeviceGetPersistenceMode, unsigned, gpu->persistence)
NUMBER(nvmlDeviceGetComputeMode, unsigned, gpu->compute_mode)
NUMBER(nvmlDeviceGetDisplayActive, unsigned, gpu->display_active)
NUMBER(nvmlDeviceGetDisplayMode, unsigned, gpu->display_attached)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, unsigned, gpu->link_generation)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, unsigned, gpu->link_width)
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, unsigned, gpu->max_link_generation)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, unsigned, gpu->max_link_width)

/* A bridge joins GPU 0 with 1, 2 with 3, and so on. */
static device neighbour(device gpu) {
  unsigned index = gpu->index ^ 1u;
  return index < machine.gpu_count ? &machine.gpus[index] : NULL;
}

int nvmlDeviceGetNvLinkState(device gpu, unsigned link, unsigned *active) {
  CHECK(gpu);
  if (gpu->nvlinks == 0) return ERROR_NOT_SUPPORTED;
  if (link >= gpu->nvlinks) return INVALID_ARGUMENT;
  *active = neighbour(gpu) != NULL;
  return SUCCESS;
}

int nvmlDeviceGetNvLinkRemotePciInfo_v2(device gpu, unsigned link, struct pci_info *info) {
  CHECK(gpu);
  if (link >= gpu->nvlinks || neighbour(gpu) == NULL) return INVALID_ARGUMENT;
  return nvmlDeviceGetPciInfo_v3(neighbour(gpu), info);
}

int nvmlDeviceGetTopologyCommonAncestor(device gpu, device other, unsigned *level) {
  CHECK(gpu);
  CHECK(other);
  *level = gpu->ancestor;
  return SUCCESS;
}

int nvmlDeviceGetP2PStatus(device gpu, device other, unsigned capability, unsigned *status) {
  CHECK(gpu);
  CHECK(other);
  /* NVML_P2P_CAPS_INDEX_NVLINK is 2; 0 is OK, 5 NOT_SUPPORTED. */
  int ok = capability == 2 ? gpu->nvlinks > 0 && other == neighbour(gpu) : gpu->peer_access;
  *status = ok ? 0 : 5;
  return SUCCESS;
}

int nvmlDeviceGetEccMode(device gpu, unsigned *current, unsigned *pending) {
  CHECK(gpu);
  if (gpu->ecc == NOT_SUPPORTED) return ERROR_NOT_SUPPORTED;
  *current = *pending = (unsigned)gpu->ecc;
  return SUCCESS;
}

int nvmlDeviceGetTotalEccErrors(device gpu, unsigned kind, unsigned counter,
                                unsigned long long *count) {
  CHECK(gpu);
  if (gpu->ecc != 1) return ERROR_NOT_SUPPORTED;
  if (kind > 1 || counter > 1) return INVALID_ARGUMENT;
  *count = gpu->ecc_counts[counter * 2 + kind];
  return SUCCESS;
}

int nvmlDeviceGetMigMode(device gpu, unsigned *current, unsigned *pending) {
  CHECK(gpu);
  if (gpu->mig == NOT_SUPPORTED) return ERROR_NOT_SUPPORTED;
  *current = *pending = (unsigned)gpu->mig;
  return SUCCESS;
}

static int processes(device gpu, char type, unsigned *count, struct process_info *list) {
  CHECK(gpu);
  unsigned found = 0, room = *count;
  for (unsigned i = 0; i < gpu->process_count; i++) {
    if (gpu->processes[i].type != type) continue;
    if (list != NULL && found < room) {
      list[found].pid = gpu->processes[i].pid;
      list[found].memory = gpu->processes[i].memory;
      list[found].gpu_instance = list[found].compute_instance = ~0u;
    }
    found++;
  }
  *count = found;
  return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}
int nvmlDeviceGetComputeRunningProcesses_v3(device gpu, unsigned *count, struct process_info *list) {
  return processes(gpu, 'C', count, list);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(device gpu, unsigned *count, struct process_info *list) {
  return processes(gpu, 'G', count, list);
}
int nvmlDeviceGetMPSComputeRunningProcesses_v3(device gpu, unsigned *count,
                                               struct process_info *list) {
  return processes(gpu, 'M', count, list);
}
