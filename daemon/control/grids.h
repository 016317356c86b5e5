/*
 * What kernels' grids are made of in a group (struct tcw_decision). Processes on GPUs may have been given parts of them, ranks may have
 * GPUs of different models, and blocks of all ranks wait for each other: so what counts is the least that any rank has, of its client on
 * the direct lane, of its executor on the served one.
 *
 * Control process, loop thread; owns nothing.
 */
#ifndef TCD_CONTROL_GRIDS_H
#define TCD_CONTROL_GRIDS_H

#include "chooser.h"
#include "instance.h"

/*
 * Fills in the decision, and says in the reason who has less than others. Clients tell their part with their first plan; until then it
 * counts as large as their executor's. Host devices: nothing.
 */
void tcd_grids_agree(const struct tcd_instance *instance, struct tcd_choice *choice);

#endif
