/*
 * Re-forming a broken instance. Without flags it is a join of the survivor's old rank into the next instance; with SHRINK the survivors
 * wait in the broken instance until all of them have asked, and then make a smaller one. Control process, loop thread; owns nothing.
 */
#ifndef TCD_CONTROL_REFORM_H
#define TCD_CONTROL_REFORM_H

#include "instance.h"

/* Handler. */
void tcd_group_reform(struct tcd_client *client, uint32_t sequence, const struct tcw_group_reform *reform);

/* A member of a broken instance has gone: in order (NULL), then the others may be complete now; or by death, then they have to ask again.
 */
void tcd_reform_member_gone(struct tcd_instance *instance, const struct tcw_error *death);

/* Ranks of a broken instance that a newcomer may not take: their clients may still re-form. */
uint64_t tcd_reform_reserved(const struct tcd_instance *broken);

#endif
