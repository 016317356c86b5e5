/*
 * The built-in tables of strategies for CUDA devices (tck/cuda_defaults.h, tck/cuda_times.h), as if read from a file: what the chooser uses without
 * choosing.tuning. Made by the first call; control process, loop thread.
 */
#ifndef TCD_CONTROL_TUNING_H
#define TCD_CONTROL_TUNING_H

#include <tcf/tuning.h>

const struct tcf_tuning *tcd_tuning_default(void);

#endif
