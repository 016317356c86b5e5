#include <tcw/plan.h>

const struct tcw_decision_step *tcw_decision_step(const struct tcw_decision *decision, uint64_t message_bytes)
{
    uint32_t i = 0;
    while (i + 1 < decision->step_count && i + 1 < TCW_MAX_DECISION_STEPS && message_bytes > decision->steps[i].max_bytes)
        i++;
    return &decision->steps[i];
}

uint32_t tcw_decision_strategy(const struct tcw_decision *decision, uint64_t message_bytes)
{
    return tcw_decision_step(decision, message_bytes)->strategy;
}
