/*
 * Tables of strategies for CUDA devices in the control process: the built-in ones (tck/cuda_defaults.h, tck/cuda_times.h), as if read from
 * a file, which the chooser uses without choosing.tuning; and whether a file is about the GPUs that are here. Loop thread.
 */
#ifndef TCD_CONTROL_TUNING_H
#define TCD_CONTROL_TUNING_H

#include <tcf/tuning.h>

#include <stdbool.h>

struct tcd_daemon;
struct tcd_device;

/* Made by the first call. */
const struct tcf_tuning *tcd_tuning_default(void);

/* Whether the file, if there is one, was measured on another model of GPU than this device, as far as both are known. */
bool tcd_tuning_is_foreign(const struct tcf_tuning *tuning, const struct tcd_device *device);
/* Logs it, once for each time that the configuration has been read: after that, and when a device has become known. */
void tcd_tuning_note_foreign(struct tcd_daemon *daemon);

#endif
