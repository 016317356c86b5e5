/* Whole tests of the operations, for one lane. Each starts and finishes its own daemon. */
#ifndef PROC_CASES_LANES_H
#define PROC_CASES_LANES_H

#include "cases.h"

void lane_random_operations(unsigned lane);
void lane_every_combination(unsigned lane);
void lane_large_messages(unsigned lane);
void lane_rotation(unsigned lane);
void lane_quantised_twins(unsigned lane);

#endif
