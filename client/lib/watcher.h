/*
 * An optional thread that looks after a context while the application does not call in: it reads what the daemon announces, takes
 * completions, and ends requests that nobody will complete any more, so that streams that wait for them go on.
 *
 * Owner: the context, from its opening to its closing. It holds no lock while it sleeps and calls nothing of the application but the log
 * function. In a forked child there is no such thread, and nothing is to be stopped.
 */
#ifndef TCC_WATCHER_H
#define TCC_WATCHER_H

struct trtcoll_ctx;

int tcc_watcher_start(struct trtcoll_ctx *ctx); /* 0, or a code with the last error set */
void tcc_watcher_stop(struct trtcoll_ctx *ctx); /* NULL watcher: nothing */

#endif
