/*
 * The end of daemon-made memory. Closing our descriptor frees nothing while a client has the memory mapped, and clients can keep it mapped
 * after they have given it back. So an executor takes the pages out of it first (off every loop: that takes time), and only then is it off
 * its account. What a client touches in it afterwards is new memory of its own, as if it had mapped some itself.
 * Loop thread.
 */
#ifndef TCD_CONTROL_RECLAIM_H
#define TCD_CONTROL_RECLAIM_H

#include "quota.h"

struct tcd_device;

/*
 * Takes the fd, and a charge (tcd_charge_keep) of so many bytes, which ends when the pages are gone; so does the device's count of them.
 * `delay_ms`: how long somebody may still be reading. `done` (may be NULL) is called once, when all that is done; possibly before this
 * returns.
 */
void tcd_reclaim(struct tcd_device *device, struct tcd_account *account, int fd, uint64_t bytes, unsigned delay_ms, void (*done)(void *arg),
                 void *arg);

#endif
