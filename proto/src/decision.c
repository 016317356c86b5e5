#include <tcw/plan.h>

uint32_t tcw_decision_strategy(const struct tcw_decision *decision, uint64_t message_bytes)
{
    uint32_t i = 0;
    while (i + 1 < decision->step_count && i < 3 && message_bytes > decision->steps[i].max_bytes)
        i++;
    return decision->steps[i].strategy;
}
