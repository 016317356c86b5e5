/*
 * Allocation: makes memory of the device for the control process, in a thread of its own: a large allocation takes as long as clearing its
 * pages does, and an abort must not wait behind that. The executor keeps nothing of it.
 *
 * Lives in an executor process; started by the main thread, answers through the mailbox.
 */
#ifndef TCD_EXECUTOR_ALLOCATION_H
#define TCD_EXECUTOR_ALLOCATION_H

#include "mailbox.h"

#include <stdatomic.h>

/* Starts it: ALLOCATED with the descriptor and value = bytes, or DONE with a code, is posted. `*running` counts it while it is under way.
 */
int tcd_ex_allocation_start(const struct tcd_ex_message *message, struct tcd_ex_mailbox *mailbox, _Atomic unsigned *running);

#endif
