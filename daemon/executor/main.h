/*
 * The executor process: serves the rings of one device. Started by the control process (control/executor.c), which it answers over a
 * SOCK_SEQPACKET socketpair (shared/executor_wire.h). Ends when told to, when the socket hangs up, or with its parent.
 */
#ifndef TCD_EXECUTOR_MAIN_H
#define TCD_EXECUTOR_MAIN_H

/*
 * Runs until the control process ends it; the exit status. Takes over the process: signals, name, every descriptor above 2. `cuda`: the GPU
 * that device is, by uuid or ordinal; NULL: a host device. A GPU that cannot be opened is reported with READY, and the process ends.
 */
int tcd_executor_main(unsigned device, const char *cuda, int socket);

#endif
