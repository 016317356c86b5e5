/*
 * What the chooser needs to know (chooser.h), gathered: of a group's clients and their devices, or of the devices that a group of the
 * configuration would have, and of the configuration.
 * Control process, loop thread; owns nothing. What is gathered points into the configuration and the devices: it is for use at once.
 */
#ifndef TCD_CONTROL_CHOOSING_H
#define TCD_CONTROL_CHOOSING_H

#include "chooser.h"
#include "instance.h"

/* Without an instance every client counts as able to do everything. `wanted` may be NULL. */
void tcd_choosing_set(struct tcd_choosing *choosing, const struct tcd_daemon *daemon, const struct tcd_instance *instance,
                      const struct tcf_group *wanted, uint32_t nranks);

#endif
