/*
 * Where the daemon listens, and the connection to it. Called while a context is opened; nothing is kept but the socket, which is the
 * caller's.
 */
#ifndef TCC_ADDRESS_H
#define TCC_ADDRESS_H

#include <stdint.h>

/*
 * Connects to `path`, or where path is NULL to $TRTCOLL_SOCKET, or to the first place of the daemon's own rule where one listens.
 * Returns a non-blocking close-on-exec socket, or a code with the last error set (its text names the paths).
 */
int tcc_address_connect(const char *path, uint64_t deadline_ns);

#endif
