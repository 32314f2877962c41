/* Copyright: (c) 2026, compute_plane.vllm contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A substitute for nvidia-smi: prints what libnvidia-ml.so.1 answers, in the form of NVIDIA's
 * program for the two queries that this collection makes. Other arguments are refused.
 */
#include <stdio.h>
#include <string.h>

/* NVML, as far as it is needed; nvml.c has the same structures. */
typedef struct gpu *device;
struct memory {
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
typedef int process_query(device, unsigned *, struct process_info *);
typedef int number_query(device, unsigned *);
int nvmlInit_v2(void);
const char *nvmlErrorString(int);
int nvmlSystemGetDriverVersion(char *, unsigned);
int nvmlSystemGetNVMLVersion(char *, unsigned);
int nvmlSystemGetCudaDriverVersion(int *);
int nvmlSystemGetProcessName(unsigned, char *, unsigned);
int nvmlDeviceGetCount_v2(unsigned *);
int nvmlDeviceGetHandleByIndex_v2(unsigned, device *);
int nvmlDeviceGetName(device, char *, unsigned);
int nvmlDeviceGetUUID(device, char *, unsigned);
int nvmlDeviceGetPciInfo_v3(device, struct pci_info *);
int nvmlDeviceGetMemoryInfo_v2(device, struct memory *);
int nvmlDeviceGetCudaComputeCapability(device, int *, int *);
int nvmlDeviceGetUtilizationRates(device, struct utilization *);
int nvmlDeviceGetEccMode(device, unsigned *, unsigned *);
int nvmlDeviceGetTotalEccErrors(device, unsigned, unsigned, unsigned long long *);
int nvmlDeviceGetMigMode(device, unsigned *, unsigned *);
int nvmlDeviceGetPowerManagementLimitConstraints(device, unsigned *, unsigned *);
number_query nvmlDeviceGetEnforcedPowerLimit, nvmlDeviceGetPowerManagementDefaultLimit,
    nvmlDeviceGetPersistenceMode, nvmlDeviceGetComputeMode,
    nvmlDeviceGetDisplayActive, nvmlDeviceGetDisplayMode, nvmlDeviceGetCurrPcieLinkGeneration,
    nvmlDeviceGetCurrPcieLinkWidth, nvmlDeviceGetMaxPcieLinkGeneration,
    nvmlDeviceGetMaxPcieLinkWidth;
process_query nvmlDeviceGetComputeRunningProcesses_v3, nvmlDeviceGetGraphicsRunningProcesses_v3;

#define MAX_PROCESSES 64

static unsigned number(number_query *query, device gpu) {
  unsigned answer = 0;
  query(gpu, &answer);
  return answer;
}

static const char *enabled(unsigned on) { return on ? "Enabled" : "Disabled"; }

static unsigned long long mib(unsigned long long bytes) { return bytes >> 20; }

static void escaped(const char *text) {
  for (; *text != '\0'; text++) {
    if (*text == '<') fputs("&lt;", stdout);
    else if (*text == '&') fputs("&amp;", stdout);
    else putchar(*text);
  }
}

static void print_processes(device gpu, process_query *query, char type) {
  struct process_info list[MAX_PROCESSES];
  unsigned count = MAX_PROCESSES;
  if (query(gpu, &count, list) != 0) return;
  for (unsigned i = 0; i < count; i++) {
    char name[128] = "";
    nvmlSystemGetProcessName(list[i].pid, name, sizeof name);
    printf("<process_info><pid>%u</pid><type>%c</type><process_name>", list[i].pid, type);
    escaped(name);
    printf("</process_name><used_memory>%llu MiB</used_memory></process_info>\n",
           mib(list[i].memory));
  }
}

static void print_ecc(device gpu) {
  unsigned current, pending;
  unsigned long long counts[4] = {0};
  if (nvmlDeviceGetEccMode(gpu, &current, &pending) != 0) {
    puts("<ecc_mode><current_ecc>N/A</current_ecc><pending_ecc>N/A</pending_ecc></ecc_mode>");
    return;
  }
  printf("<ecc_mode><current_ecc>%s</current_ecc><pending_ecc>%s</pending_ecc></ecc_mode>\n",
         enabled(current), enabled(pending));
  for (unsigned i = 0; i < 4; i++)
    if (nvmlDeviceGetTotalEccErrors(gpu, i % 2, i / 2, &counts[i]) != 0) return;
  printf("<ecc_errors><volatile><dram_correctable>%llu</dram_correctable>"
         "<dram_uncorrectable>%llu</dram_uncorrectable></volatile><aggregate>"
         "<dram_correctable>%llu</dram_correctable>"
         "<dram_uncorrectable>%llu</dram_uncorrectable></aggregate></ecc_errors>\n",
         counts[0], counts[1], counts[2], counts[3]);
}

static void print_gpu(device gpu) {
  static const char *const compute_modes[] = {"Default", "Exclusive_Thread", "Prohibited",
                                              "Exclusive_Process"};
  char name[96] = "", uuid[96] = "";
  struct pci_info pci = {{0}, 0, 0, 0, 0, 0, {0}};
  struct memory memory = {sizeof memory | 2 << 24, 0, 0, 0, 0};
  struct utilization utilization = {0, 0};
  unsigned mig = 0, pending = 0;
  nvmlDeviceGetName(gpu, name, sizeof name);
  nvmlDeviceGetUUID(gpu, uuid, sizeof uuid);
  nvmlDeviceGetPciInfo_v3(gpu, &pci);
  nvmlDeviceGetMemoryInfo_v2(gpu, &memory);
  nvmlDeviceGetUtilizationRates(gpu, &utilization);
  int has_mig = nvmlDeviceGetMigMode(gpu, &mig, &pending) == 0;
  printf("<gpu id=\"%s\">\n<product_name>%s</product_name>\n", pci.id, name);
  printf("<display_attached>%s</display_attached>\n<display_active>%s</display_active>\n",
         number(nvmlDeviceGetDisplayMode, gpu) ? "Yes" : "No",
         enabled(number(nvmlDeviceGetDisplayActive, gpu)));
  printf("<persistence_mode>%s</persistence_mode>\n",
         enabled(number(nvmlDeviceGetPersistenceMode, gpu)));
  printf("<mig_mode><current_mig>%s</current_mig></mig_mode>\n", has_mig ? enabled(mig) : "N/A");
  printf("<uuid>%s</uuid>\n<pci><pci_bus_id>%s</pci_bus_id><pci_gpu_link_info>\n", uuid, pci.id);
  printf("<pcie_gen><max_link_gen>%u</max_link_gen><current_link_gen>%u</current_link_gen></pcie_gen>\n",
         number(nvmlDeviceGetMaxPcieLinkGeneration, gpu),
         number(nvmlDeviceGetCurrPcieLinkGeneration, gpu));
  printf("<link_widths><max_link_width>%ux</max_link_width>"
         "<current_link_width>%ux</current_link_width></link_widths></pci_gpu_link_info></pci>\n",
         number(nvmlDeviceGetMaxPcieLinkWidth, gpu), number(nvmlDeviceGetCurrPcieLinkWidth, gpu));
  printf("<fb_memory_usage><total>%llu MiB</total><reserved>%llu MiB</reserved>"
         "<used>%llu MiB</used><free>%llu MiB</free></fb_memory_usage>\n",
         mib(memory.total), mib(memory.reserved), mib(memory.used), mib(memory.free));
  printf("<compute_mode>%s</compute_mode>\n",
         compute_modes[number(nvmlDeviceGetComputeMode, gpu) % 4]);
  printf("<utilization><gpu_util>%u %%</gpu_util></utilization>\n", utilization.gpu);
  print_ecc(gpu);
  unsigned least = 0, most = 0;
  nvmlDeviceGetPowerManagementLimitConstraints(gpu, &least, &most);
  printf("<gpu_power_readings><current_power_limit>%.2f W</current_power_limit>"
         "<default_power_limit>%.2f W</default_power_limit>"
         "<min_power_limit>%.2f W</min_power_limit><max_power_limit>%.2f W</max_power_limit>"
         "</gpu_power_readings>\n<processes>\n",
         number(nvmlDeviceGetEnforcedPowerLimit, gpu) / 1000.0,
         number(nvmlDeviceGetPowerManagementDefaultLimit, gpu) / 1000.0, least / 1000.0,
         most / 1000.0);
  print_processes(gpu, nvmlDeviceGetGraphicsRunningProcesses_v3, 'G');
  print_processes(gpu, nvmlDeviceGetComputeRunningProcesses_v3, 'C');
  puts("</processes>\n</gpu>");
}

static int print_xml(unsigned count) {
  char driver[96] = "";
  int cuda = 0;
  nvmlSystemGetDriverVersion(driver, sizeof driver);
  nvmlSystemGetCudaDriverVersion(&cuda);
  puts("<?xml version=\"1.0\" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM \"nvsmi_device_v12.dtd\">");
  printf("<nvidia_smi_log>\n<driver_version>%s</driver_version>\n", driver);
  printf("<cuda_version>%d.%d</cuda_version>\n", cuda / 1000, cuda % 1000 / 10);
  printf("<attached_gpus>%u</attached_gpus>\n", count);
  for (unsigned i = 0; i < count; i++) {
    device gpu;
    if (nvmlDeviceGetHandleByIndex_v2(i, &gpu) == 0) print_gpu(gpu);
  }
  puts("</nvidia_smi_log>");
  return 0;
}

static int print_compute_capability(unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    device gpu;
    char uuid[96] = "";
    int major = 0, minor = 0;
    if (nvmlDeviceGetHandleByIndex_v2(i, &gpu) != 0) continue;
    nvmlDeviceGetUUID(gpu, uuid, sizeof uuid);
    nvmlDeviceGetCudaComputeCapability(gpu, &major, &minor);
    printf("%s, %d.%d\n", uuid, major, minor);
  }
  return 0;
}

int main(int argc, char **argv) {
  int xml = argc == 3 && strcmp(argv[1], "-q") == 0 && strcmp(argv[2], "-x") == 0;
  int csv = argc == 3 && strcmp(argv[1], "--query-gpu=uuid,compute_cap") == 0 &&
            strcmp(argv[2], "--format=csv,noheader") == 0;
  if (!xml && !csv) {
    fputs("fake nvidia-smi: only -q -x and --query-gpu=uuid,compute_cap --format=csv,noheader\n",
          stderr);
    return 2;
  }
  int failed = nvmlInit_v2();
  if (failed != 0) {
    char version[96] = "";
    nvmlSystemGetNVMLVersion(version, sizeof version);
    printf("Failed to initialize NVML: %s\n", nvmlErrorString(failed));
    if (failed == 18) printf("NVML library version: %s\n", version);
    return failed;
  }
  unsigned count = 0;
  nvmlDeviceGetCount_v2(&count);
  for (unsigned i = 0; i < count; i++) {
    device gpu;
    failed = nvmlDeviceGetHandleByIndex_v2(i, &gpu);
    if (failed != 0) {
      printf("Unable to determine the device handle for GPU%u: 0000:%02X:00.0: %s.  Reboot the "
             "system to recover this GPU\n", i, i + 1, nvmlErrorString(failed));
      return failed;
    }
  }
  return xml ? print_xml(count) : print_compute_capability(count);
}
