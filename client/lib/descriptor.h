/*
 * From the descriptors of the public interface to the one of the contract: enumerations in range, shapes as [outer, extent, inner]. Pure
 * functions; what they accept has also passed tcw_plan_desc_check.
 */
#ifndef TCC_DESCRIPTOR_H
#define TCC_DESCRIPTOR_H

#include "trtcoll.h"

#include <tck/device.h>
#include <tcw/plan.h>

/* Each: 0 with *desc filled, or a code with the last error set (field and text say what was found and what is allowed). */
int tcc_describe_all_reduce(const struct trtcoll_all_reduce_desc *user, tck_device_kind kind, uint32_t nranks, struct tcw_plan_desc *desc);
int tcc_describe_gather(const struct trtcoll_gather_desc *user, tcw_op op, tck_device_kind kind, uint32_t nranks, uint32_t rank,
                        struct tcw_plan_desc *desc);
int tcc_describe_all_to_all(const struct trtcoll_all_to_all_desc *user, tck_device_kind kind, uint32_t nranks, struct tcw_plan_desc *desc);
int tcc_describe_broadcast(const struct trtcoll_broadcast_desc *user, tck_device_kind kind, uint32_t nranks, struct tcw_plan_desc *desc);
int tcc_describe_finalize(const struct trtcoll_finalize_desc *user, tck_device_kind kind, uint32_t nranks, struct tcw_plan_desc *desc);
int tcc_describe_barrier(const struct trtcoll_barrier_desc *user, tck_device_kind kind, uint32_t nranks, struct tcw_plan_desc *desc);

#endif
