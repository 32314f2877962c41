/* Copyright: (c) 2026, compute_plane.vllm contributors
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * A substitute for libcuda.so.1: cuInit and what can be asked without a context, about a machine
 * described by an ini file. It computes nothing: torch.cuda stays unavailable.
 *
 * Functions and constants: https://docs.nvidia.com/cuda/cuda-driver-api/index.html
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "machine.h"

/* CUresult */
enum {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  NOT_INITIALIZED = 3,
  NO_DEVICE = 100,
  INVALID_DEVICE = 101,
  SYSTEM_DRIVER_MISMATCH = 803,
  UNKNOWN = 999
};
/* CUdevice_attribute */
enum { COMPUTE_CAPABILITY_MAJOR = 75, COMPUTE_CAPABILITY_MINOR = 76 };

static const struct {
  int code;
  const char *name, *text;
} errors[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {SYSTEM_DRIVER_MISMATCH, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
     "system has unsupported display driver / cuda driver combination"},
    {UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

static struct machine machine;
static struct gpu *visible[MAX_GPUS]; /* a lost GPU is not among them */
static int count = -1;                /* -1 before cuInit */

static int error_text(int code, const char **text, int want_name) {
  for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++)
    if (errors[i].code == code) {
      *text = want_name ? errors[i].name : errors[i].text;
      return SUCCESS;
    }
  *text = NULL;
  return INVALID_VALUE;
}
int cuGetErrorName(int code, const char **text) { return error_text(code, text, 1); }
int cuGetErrorString(int code, const char **text) { return error_text(code, text, 0); }

/* Answers without cuInit, as NVIDIA's does. */
int cuDriverGetVersion(int *version) {
  struct machine now;
  *version = read_machine(&now) == 0 ? now.cuda : 0;
  return SUCCESS;
}

int cuInit(unsigned flags) {
  (void)flags;
  if (read_machine(&machine) != 0) return NO_DEVICE;
  int result = act(machine.cuinit);
  if (result != SUCCESS) return result;
  if (strcmp(machine.driver, machine.library) != 0) return SYSTEM_DRIVER_MISMATCH;
  int found = 0;
  for (unsigned i = 0; i < machine.gpu_count; i++)
    if (!machine.gpus[i].lost) visible[found++] = &machine.gpus[i];
  if (found == 0) return NO_DEVICE;
  count = found;
  return SUCCESS;
}

int cuDeviceGetCount(int *answer) {
  if (count < 0) return NOT_INITIALIZED;
  *answer = count;
  return SUCCESS;
}

int cuDeviceGet(int *device, int ordinal) {
  if (count < 0) return NOT_INITIALIZED;
  if (ordinal < 0 || ordinal >= count) return INVALID_DEVICE;
  *device = ordinal;
  return SUCCESS;
}

#define CHECK(device)                                             \
  do {                                                            \
    if (count < 0) return NOT_INITIALIZED;                        \
    if ((device) < 0 || (device) >= count) return INVALID_DEVICE; \
  } while (0)

int cuDeviceGetName(char *name, int length, int device) {
  CHECK(device);
  snprintf(name, (size_t)length, "%s", visible[device]->name);
  return SUCCESS;
}

int cuDeviceGetUuid(unsigned char *bytes, int device) {
  CHECK(device);
  const char *digit = visible[device]->uuid + strlen("GPU-");
  for (int i = 0; i < 16; i++, digit += 2) {
    if (*digit == '-') digit++;
    if (sscanf(digit, "%2hhx", &bytes[i]) != 1) return UNKNOWN;
  }
  return SUCCESS;
}
int cuDeviceGetUuid_v2(unsigned char *bytes, int device) { return cuDeviceGetUuid(bytes, device); }

int cuDeviceGetAttribute(int *value, int attribute, int device) {
  CHECK(device);
  switch (attribute) {
    case COMPUTE_CAPABILITY_MAJOR: *value = visible[device]->capability_major; return SUCCESS;
    case COMPUTE_CAPABILITY_MINOR: *value = visible[device]->capability_minor; return SUCCESS;
    default: return INVALID_VALUE;
  }
}

int cuDeviceTotalMem_v2(size_t *bytes, int device) {
  CHECK(device);
  *bytes = visible[device]->memory - visible[device]->reserved;
  return SUCCESS;
}
