/*
 * Quotas: what a client and all clients of its uid may hold. Taking either fits both limits or takes nothing. Control process, loop
 * thread. A usage stands inside its client; accounts are counted references, freed with the last client of the uid and the last charge.
 */
#ifndef TCD_CONTROL_QUOTA_H
#define TCD_CONTROL_QUOTA_H

#include "list.h"

#include <tcf/config.h>
#include <tcw/message.h>

typedef enum tcd_resource { TCD_BYTES = 0, TCD_PLANS = 1, TCD_GROUPS = 2, TCD_IN_FLIGHT = 3, TCD_RESOURCES = 4 } tcd_resource;

struct tcd_usage {
    uint64_t amount[TCD_RESOURCES];
};

struct tcd_account {
    struct tcd_link link;
    uint32_t uid;
    uint32_t clients;
    uint32_t strangers; /* of them, those without a hello */
    uint32_t seats;     /* of them, those attached: no strangers, no tools */
    uint32_t memories;  /* memory objects: each is a descriptor here */
    uint32_t charges;   /* that have outlived what they were for */
    struct tcd_usage usage;
};

/* The account of a uid, made if there is none; NULL: out of memory. */
struct tcd_account *tcd_account_open(struct tcd_link *accounts, uint32_t uid);
/* A client ends: gives back all it still holds. */
void tcd_account_close(struct tcd_account *account, const struct tcd_usage *left);

/* 0 or TCW_EQUOTA with *error saying which limit, how much is allowed, in use and asked for. */
int tcd_quota_take(struct tcd_usage *client, struct tcd_account *account, const struct tcf_options *limits, tcd_resource resource,
                   uint64_t amount, struct tcw_error *error);
void tcd_quota_give(struct tcd_usage *client, struct tcd_account *account, tcd_resource resource, uint64_t amount);
/*
 * Memory may outlive the client that pays for it, because somebody is still making it or taking it back. Keeping moves bytes from the
 * client to its account alone, which stays for them; ending gives them back.
 */
void tcd_charge_keep(struct tcd_usage *client, struct tcd_account *account, uint64_t bytes);
void tcd_charge_end(struct tcd_account *account, uint64_t bytes);
/* How much could still be taken. */
uint64_t tcd_quota_room(const struct tcd_usage *client, const struct tcd_account *account, const struct tcf_options *limits,
                        tcd_resource resource);

#endif
