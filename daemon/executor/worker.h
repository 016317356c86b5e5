/*
 * Worker: the thread of one attachment, the counterpart of a GPU stream. It takes requests from the ring in order, checks them,
 * has the engine run them, and sleeps when there are none; as long as CUDA graphs may be replayed, which wakes nobody, only in short naps.
 * Nothing on its way from a request to its completion allocates, logs or calls the kernel while both sides are awake.
 *
 * Lives in an executor process; started and joined by the main thread (attachment.c). Touches only its own attachment and, under its lock,
 * the attachment's client.
 */
#ifndef TCD_EXECUTOR_WORKER_H
#define TCD_EXECUTOR_WORKER_H

struct tcd_ex_attachment;

/* Starts attachment->thread; 0 or TCW_ENOMEM. It ends after tcd_ex_attachment_stop: sets `ended` and wakes the mailbox. */
int tcd_ex_worker_start(struct tcd_ex_attachment *attachment);

#endif
