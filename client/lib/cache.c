#include "cache.h"

#include "plan.h"

#include <string.h>

/* Puts a plan in front; the entries before `from` move back by one. */
static void to_front(struct tcc_cache *cache, uint32_t from, struct trtcoll_plan *plan)
{
    memmove(&cache->plans[1], &cache->plans[0], from * sizeof(cache->plans[0]));
    cache->plans[0] = plan;
}

int tcc_cache_get(struct trtcoll_group *group, const struct tcw_plan_desc *desc, struct trtcoll_plan **plan)
{
    struct tcc_cache *cache = &group->cache;
    uint32_t i;
    int code;

    for (i = 0; i < cache->count; i++)
        if (!memcmp(&cache->plans[i]->desc, desc, sizeof(*desc))) {
            *plan = cache->plans[i];
            to_front(cache, i, *plan);
            return 0;
        }
    code = tcc_plan_create(group, desc, plan);
    if (code)
        return code;
    if (cache->count == TCC_CACHE_PLANS)
        tcc_plan_release(cache->plans[--cache->count]);
    to_front(cache, cache->count, *plan);
    cache->count++;
    return 0;
}

void tcc_cache_clear(struct trtcoll_group *group)
{
    while (group->cache.count)
        tcc_plan_release(group->cache.plans[--group->cache.count]);
}
