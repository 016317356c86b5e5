#include "quota.h"
#include "text.h"

#include <stdlib.h>

static const char *const resource_names[TCD_RESOURCES] = {"bytes", "plans", "groups", "in_flight"};

static uint64_t client_limit(const struct tcf_options *limits, tcd_resource resource)
{
    const uint64_t values[TCD_RESOURCES] = {limits->client_bytes, limits->client_plans, limits->client_groups, limits->client_in_flight};

    return values[resource];
}

static uint64_t uid_limit(const struct tcf_options *limits, tcd_resource resource)
{
    const uint64_t values[TCD_RESOURCES] = {limits->uid_bytes, limits->uid_plans, limits->uid_groups, limits->uid_in_flight};

    return values[resource];
}

struct tcd_account *tcd_account_open(struct tcd_link *accounts, uint32_t uid)
{
    struct tcd_account *account;
    struct tcd_link *at;

    TCD_EACH (at, accounts) {
        account = TCD_ENTRY(at, struct tcd_account, link);
        if (account->uid == uid) {
            account->clients++;
            return account;
        }
    }
    account = calloc(1, sizeof(*account));
    if (!account)
        return NULL;
    account->uid = uid;
    account->clients = 1;
    tcd_list_append(accounts, &account->link);
    return account;
}

static void account_drop(struct tcd_account *account)
{
    if (account->clients || account->charges)
        return;
    tcd_list_remove(&account->link);
    free(account);
}

void tcd_account_close(struct tcd_account *account, const struct tcd_usage *left)
{
    unsigned i;

    for (i = 0; i < TCD_RESOURCES; i++)
        account->usage.amount[i] -= left->amount[i];
    account->clients--;
    account_drop(account);
}

void tcd_charge_keep(struct tcd_usage *client, struct tcd_account *account, uint64_t bytes)
{
    client->amount[TCD_BYTES] -= bytes;
    account->charges++;
}

void tcd_charge_end(struct tcd_account *account, uint64_t bytes)
{
    account->usage.amount[TCD_BYTES] -= bytes;
    account->charges--;
    account_drop(account);
}

/* Limits may have been lowered below what is in use. */
static uint64_t room(uint64_t limit, uint64_t used)
{
    return limit > used ? limit - used : 0;
}

int tcd_quota_take(struct tcd_usage *client, struct tcd_account *account, const struct tcf_options *limits, tcd_resource resource,
                   uint64_t amount, struct tcw_error *error)
{
    uint64_t *mine = &client->amount[resource], *ours = &account->usage.amount[resource];
    const char *name = resource_names[resource];

    if (amount > room(client_limit(limits, resource), *mine))
        return tcd_error_set(error, TCW_EQUOTA, "limits.client.%s: %llu asked for, %llu held, %llu allowed to one client", name,
                             (unsigned long long)amount, (unsigned long long)*mine, (unsigned long long)client_limit(limits, resource));
    if (amount > room(uid_limit(limits, resource), *ours))
        return tcd_error_set(error, TCW_EQUOTA, "limits.uid.%s: %llu asked for, %llu held by clients of uid %u, %llu allowed", name,
                             (unsigned long long)amount, (unsigned long long)*ours, account->uid,
                             (unsigned long long)uid_limit(limits, resource));
    *mine += amount;
    *ours += amount;
    return 0;
}

void tcd_quota_give(struct tcd_usage *client, struct tcd_account *account, tcd_resource resource, uint64_t amount)
{
    client->amount[resource] -= amount;
    account->usage.amount[resource] -= amount;
}

uint64_t tcd_quota_room(const struct tcd_usage *client, const struct tcd_account *account, const struct tcf_options *limits,
                        tcd_resource resource)
{
    uint64_t mine = room(client_limit(limits, resource), client->amount[resource]);
    uint64_t ours = room(uid_limit(limits, resource), account->usage.amount[resource]);

    return mine < ours ? mine : ours;
}
