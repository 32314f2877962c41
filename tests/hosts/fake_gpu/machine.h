/* Copyright: (c) 2026, compute_plane.vllm contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The machine that the substitutes pretend to be, read from one ini file.
 * What each key means: README.md beside this file.
 */
#ifndef FAKE_GPU_MACHINE_H
#define FAKE_GPU_MACHINE_H

#define MAX_GPUS 16
#define MAX_PROCESSES 32
#define NAME_LENGTH 96

enum { NOT_SUPPORTED = -1 };
/* Values of the keys `nvml` and `cuinit` beside result codes. */
enum { HANG = -2, CRASH = -3 };

struct process {
  unsigned pid;
  unsigned long long memory; /* bytes */
  char type;                 /* 'C' or 'G' */
  char name[NAME_LENGTH];
};

struct gpu {
  unsigned index;
  char name[NAME_LENGTH], uuid[NAME_LENGTH], bus[32];
  unsigned pci_device; /* NVIDIA's device id, like 0x2204 */
  int capability_major, capability_minor;
  unsigned long long memory, reserved, used; /* bytes */
  unsigned utilization;                      /* percent */
  unsigned power_limit, power_default, power_least, power_most; /* watts; most 0: not supported */
  unsigned temperature; /* degrees Celsius; it slows down at 93 and stops at 98 */
  unsigned recovery_action; /* nvmlDeviceGpuRecoveryAction_t */
  unsigned xid;         /* what its driver reports once somebody listens; 0 for nothing */
  int persistence, compute_mode, display_active, display_attached;
  int ecc, mig; /* NOT_SUPPORTED, 0 or 1 */
  unsigned long long ecc_counts[4]; /* volatile corrected, uncorrected; aggregate likewise */
  unsigned link_generation, link_width, max_link_generation, max_link_width;
  unsigned nvlinks, ancestor; /* to the next GPU; nvmlGpuTopologyLevel_t of the path over PCIe */
  int peer_access;            /* 0 or 1 */
  int lost;
  unsigned process_count;
  struct process processes[MAX_PROCESSES];
};

struct machine {
  char driver[NAME_LENGTH];  /* the kernel module's version */
  char library[NAME_LENGTH]; /* the installed libraries' version */
  int cuda;                  /* 13010 is CUDA 13.1 */
  int nvml, cuinit;          /* what nvmlInit and cuInit return, HANG or CRASH */
  unsigned gpu_count;
  struct gpu gpus[MAX_GPUS];
};

/* Reads $FAKE_GPU_CONF, else /etc/fake-gpu.ini. Returns 0, or -1 when there is no such file. */
int read_machine(struct machine *machine);

/* Keeps what was set of a GPU, as a loaded driver would: beside $FAKE_GPU_CONF, else in /dev/shm. */
int keep_setting(const struct gpu *gpu, const char *key, unsigned value);

/* Does what the keys `nvml` and `cuinit` say: returns a result code, hangs or crashes. */
int act(int behaviour);

#endif
