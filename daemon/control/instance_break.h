/*
 * The end of an instance for its members (instance.h): at once, or gently after one of them has left in good order, when each is told only
 * once it has finished what the one that left had finished.
 * Control process, loop thread; owns nothing.
 */
#ifndef TCD_CONTROL_INSTANCE_BREAK_H
#define TCD_CONTROL_INSTANCE_BREAK_H

#include "instance.h"

/* READY, or ending gently after a member left: ends it for everybody, now. In other states nothing happens. */
void tcd_instance_break(struct tcd_instance *instance, const struct tcw_error *cause);
/* READY: becomes BROKEN because `leaver` leaves. */
void tcd_instance_break_gently(struct tcd_instance *instance, const struct tcw_error *cause, struct tcd_member *leaver);
/* BROKEN, and now this member goes: those who have not been told yet may wait for what it had finished too, or for nobody any more. */
void tcd_member_depart_broken(struct tcd_member *member, bool orderly);

#endif
