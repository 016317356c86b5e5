/*
 * HELLO: who may attach, with which ABI, features and device. Loop thread.
 */
#ifndef TCD_CONTROL_HELLO_H
#define TCD_CONTROL_HELLO_H

#include "client.h"

/* Answers HELLO_OK, or ERROR and dooms the client. */
void tcd_hello(struct tcd_client *client, uint32_t sequence, const struct tcw_hello *hello);

/* Is the client's uid or one of its gids in the lists? An empty list of both kinds lets everybody in. Root and the daemon's own uid always
 * may. */
bool tcd_access_allows(const struct tcf_access *access, const struct tcd_client *client);
/* The same, but empty lists let nobody else in. */
bool tcd_access_allows_listed(const struct tcf_access *access, const struct tcd_client *client);

#endif
