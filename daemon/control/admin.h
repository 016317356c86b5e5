/*
 * ADMIN: what operators may ask for. Answers are JSON, sent in parts. Control process, loop thread; owns nothing.
 */
#ifndef TCD_CONTROL_ADMIN_H
#define TCD_CONTROL_ADMIN_H

#include "client.h"

void tcd_admin(struct tcd_client *client, uint32_t sequence, const struct tcw_admin *message);

#endif
