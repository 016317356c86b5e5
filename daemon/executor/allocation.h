/*
 * Allocation: makes memory of the device for the control process and takes it back, in threads of their own: both take as long as clearing
 * pages does, and an abort must not wait behind that. The executor keeps nothing of it.
 *
 * Lives in an executor process; started by the main thread, answers through the mailbox.
 */
#ifndef TCD_EXECUTOR_ALLOCATION_H
#define TCD_EXECUTOR_ALLOCATION_H

#include "engine.h"
#include "mailbox.h"

/*
 * Starts it: ALLOCATED with the descriptor and value = bytes, or DONE with a code, is posted. Memory with a workspace generation is
 * formatted as a workspace.
 */
int tcd_ex_allocation_start(const struct tcd_ex_message *message, struct tcd_ex_engine *engine);

/*
 * The end of memory: pages of host memory go back to the system, though clients may still have it mapped; what they touch from now on is
 * theirs. A GPU's memory cannot be taken out of mappings: it goes with the last of them. DONE is posted. Takes the fd on success.
 */
int tcd_ex_reclaim_start(const struct tcd_ex_message *message, int fd, struct tcd_ex_engine *engine);

/*
 * The steps of a multicast object: ALLOCATED with it, or DONE, is posted. Takes the descriptors on success.
 */
int tcd_ex_multicast_start(const struct tcd_ex_message *message, int *fds, unsigned fd_count, struct tcd_ex_engine *engine);

#endif
