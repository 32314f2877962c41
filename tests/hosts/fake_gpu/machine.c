/* Copyright: (c) 2026, compute_plane.vllm contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Reads the ini file; see machine.h.
 */
#include "machine.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB (1ULL << 20)

static void set_text(char *target, size_t size, const char *value) {
  snprintf(target, size, "%s", value);
}

/* "none" for what the GPU does not have, else a number. */
static int tri_state(const char *value) {
  return strcmp(value, "none") == 0 ? NOT_SUPPORTED : atoi(value);
}

static int behaviour(const char *value) {
  if (strcmp(value, "hang") == 0) return HANG;
  if (strcmp(value, "crash") == 0) return CRASH;
  return atoi(value);
}

/* "13.1" is 13010. */
static int cuda_version(const char *value) {
  int major = 0, minor = 0;
  sscanf(value, "%d.%d", &major, &minor);
  return major * 1000 + minor * 10;
}

/* "48213 C 22600 VLLM::EngineCore": process id, type, MiB, name. One line for each process. */
static void add_process(struct gpu *gpu, const char *value) {
  unsigned pid;
  unsigned long long mib;
  char type;
  int name = 0;
  if (gpu->process_count == MAX_PROCESSES) return;
  if (sscanf(value, "%u %c %llu %n", &pid, &type, &mib, &name) < 3) return;
  struct process *process = &gpu->processes[gpu->process_count++];
  process->pid = pid;
  process->type = type;
  process->memory = mib * MIB;
  set_text(process->name, sizeof process->name, value + name);
}

static struct gpu *add_gpu(struct machine *machine) {
  if (machine->gpu_count == MAX_GPUS) return NULL;
  struct gpu *gpu = &machine->gpus[machine->gpu_count];
  memset(gpu, 0, sizeof *gpu);
  gpu->index = machine->gpu_count++;
  set_text(gpu->name, sizeof gpu->name, "NVIDIA GeForce RTX 3090");
  snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-00000000-0000-4000-8000-%012u", gpu->index + 1);
  snprintf(gpu->bus, sizeof gpu->bus, "00000000:%02X:00.0", gpu->index + 1);
  gpu->pci_device = 0x2204;
  gpu->capability_major = 8;
  gpu->capability_minor = 6;
  gpu->memory = 24576 * MIB;
  gpu->reserved = 422 * MIB;
  gpu->power_limit = gpu->power_default = 350;
  gpu->power_least = 100;
  gpu->power_most = 366;
  gpu->temperature = 40;
  gpu->ecc = gpu->mig = NOT_SUPPORTED;
  gpu->link_generation = 1;
  gpu->link_width = gpu->max_link_width = 16;
  gpu->max_link_generation = 4;
  gpu->ancestor = 30; /* NVML_TOPOLOGY_HOSTBRIDGE */
  return gpu;
}

static void set_gpu(struct gpu *gpu, const char *key, const char *value) {
#define IS(name) (strcmp(key, name) == 0)
  if (IS("name")) set_text(gpu->name, sizeof gpu->name, value);
  else if (IS("uuid")) set_text(gpu->uuid, sizeof gpu->uuid, value);
  else if (IS("bus")) set_text(gpu->bus, sizeof gpu->bus, value);
  else if (IS("device")) gpu->pci_device = (unsigned)strtoul(value, NULL, 16);
  else if (IS("capability")) sscanf(value, "%d.%d", &gpu->capability_major, &gpu->capability_minor);
  else if (IS("memory_mib")) gpu->memory = strtoull(value, NULL, 10) * MIB;
  else if (IS("reserved_mib")) gpu->reserved = strtoull(value, NULL, 10) * MIB;
  else if (IS("used_mib")) gpu->used = strtoull(value, NULL, 10) * MIB;
  else if (IS("utilization")) gpu->utilization = (unsigned)atoi(value);
  else if (IS("power_limit_watts")) gpu->power_limit = gpu->power_default = (unsigned)atoi(value);
  else if (IS("power_range_watts"))
    sscanf(value, "%u %u", &gpu->power_least, &gpu->power_most);
  else if (IS("power_set_watts")) gpu->power_limit = (unsigned)atoi(value);
  else if (IS("temperature")) gpu->temperature = (unsigned)atoi(value);
  else if (IS("recovery_action")) gpu->recovery_action = (unsigned)atoi(value);
  else if (IS("xid")) gpu->xid = (unsigned)atoi(value);
  else if (IS("persistence")) gpu->persistence = atoi(value);
  else if (IS("compute_mode")) gpu->compute_mode = atoi(value);
  else if (IS("display_active")) gpu->display_active = atoi(value);
  else if (IS("display_attached")) gpu->display_attached = atoi(value);
  else if (IS("ecc")) gpu->ecc = tri_state(value);
  else if (IS("ecc_counts"))
    sscanf(value, "%llu %llu %llu %llu", &gpu->ecc_counts[0], &gpu->ecc_counts[1],
           &gpu->ecc_counts[2], &gpu->ecc_counts[3]);
  else if (IS("mig")) gpu->mig = tri_state(value);
  else if (IS("link")) sscanf(value, "%ux%u", &gpu->link_generation, &gpu->link_width);
  else if (IS("nvlinks")) gpu->nvlinks = (unsigned)atoi(value);
  else if (IS("ancestor")) gpu->ancestor = (unsigned)atoi(value);
  else if (IS("peer_access")) gpu->peer_access = atoi(value);
  else if (IS("max_link")) sscanf(value, "%ux%u", &gpu->max_link_generation, &gpu->max_link_width);
  else if (IS("lost")) gpu->lost = atoi(value);
  else if (IS("process")) add_process(gpu, value);
}

static void set_machine(struct machine *machine, const char *key, const char *value) {
  if (IS("driver")) set_text(machine->driver, sizeof machine->driver, value);
  else if (IS("library")) set_text(machine->library, sizeof machine->library, value);
  else if (IS("cuda")) machine->cuda = cuda_version(value);
  else if (IS("nvml")) machine->nvml = behaviour(value);
  else if (IS("cuinit")) machine->cuinit = behaviour(value);
#undef IS
}

static const char *machine_path(void) {
  const char *path = getenv("FAKE_GPU_CONF");
  return path != NULL ? path : "/etc/fake-gpu.ini";
}

/* On a host where a unit with ProtectSystem=strict may write too, and where a boot empties it. */
static void settings_path(char *path, size_t size) {
  const char *conf = getenv("FAKE_GPU_CONF");
  snprintf(path, size, "%s.set", conf != NULL ? conf : "/dev/shm/fake-gpu");
}

/* "0 power_set_watts = 280": a GPU's index, and a line as the ini file has it. */
static void read_settings(struct machine *machine) {
  char path[512], line[512], key[64], value[400];
  unsigned index;
  settings_path(path, sizeof path);
  FILE *file = fopen(path, "r");
  if (file == NULL) return;
  while (fgets(line, sizeof line, file) != NULL)
    if (sscanf(line, "%u %63[a-z_] = %399[^\r\n]", &index, key, value) == 3 &&
        index < machine->gpu_count)
      set_gpu(&machine->gpus[index], key, value);
  fclose(file);
}

int keep_setting(const struct gpu *gpu, const char *key, unsigned value) {
  char path[512];
  settings_path(path, sizeof path);
  FILE *file = fopen(path, "a");
  if (file == NULL) return -1;
  fprintf(file, "%u %s = %u\n", gpu->index, key, value);
  return fclose(file);
}

int read_machine(struct machine *machine) {
  FILE *file = fopen(machine_path(), "r");
  if (file == NULL) return -1;
  memset(machine, 0, sizeof *machine);
  set_text(machine->driver, sizeof machine->driver, "590.48.01");
  machine->cuda = 13010;
  struct gpu *gpu = NULL;
  int in_gpu = 0;
  char line[512], key[64], value[400];
  while (fgets(line, sizeof line, file) != NULL) {
    if (line[0] == '[') {
      in_gpu = strncmp(line, "[gpu", 4) == 0;
      gpu = in_gpu ? add_gpu(machine) : NULL;
      continue;
    }
    if (sscanf(line, " %63[a-z_] = %399[^\r\n]", key, value) != 2) continue;
    if (!in_gpu) set_machine(machine, key, value);
    else if (gpu != NULL) set_gpu(gpu, key, value);
  }
  fclose(file);
  read_settings(machine);
  if (machine->library[0] == '\0') set_text(machine->library, NAME_LENGTH, machine->driver);
  return 0;
}

int act(int what) {
  if (what == HANG)
    for (;;) pause();
  if (what == CRASH) raise(SIGSEGV);
  return what;
}
