/*
 * The stats segment: one file, `stats` in the runtime directory, written by the control process alone and mapped read-only by tools. It
 * describes itself, so a tool can read a newer daemon and is useful while the daemon is stuck or dead.
 *
 * Layout: header, schema (tables, then their fields), rows. Every row starts with a sequence word: odd while it is being written, 0 while
 * empty; a reader copies the row and accepts the copy when the word was even, not 0, and unchanged. The file is written under a temporary
 * name and renamed once `ready` is set, so a reader that can open it can use it. A new daemon replaces the file; the inode changes.
 */
#ifndef TCW_STATS_H
#define TCW_STATS_H

#include <tcw/member.h>
#include <tcw/types.h>

#include <stdatomic.h>
#include <stdbool.h>

#define TCW_STATS_MAGIC 0x53435754u /* "TWCS" */
enum { TCW_STATS_VERSION = 1, TCW_STATS_TEXT = 64, TCW_STATS_ENVIRONMENT = 1024, TCW_STATS_RECORDS_PER_MEMBER = 32 };

typedef enum tcw_stats_kind { TCW_STATS_COUNTER = 1, TCW_STATS_GAUGE = 2, TCW_STATS_ID = 3 } tcw_stats_kind;

/*
 * Fields: U64(member, kind, unit, help), TEXT(member, bytes, help) with bytes a multiple of 8, ARRAY(member, count, kind, unit, help) of
 * u64. Append at the end of a list only.
 */
#define TCW_STATS_DAEMON_FIELDS(U64, TEXT, ARRAY)                                                                                          \
    U64(pid, ID, "", "process id of the control process")                                                                                  \
    U64(start_ns, GAUGE, "ns", "start, CLOCK_REALTIME")                                                                                    \
    U64(generation, ID, "", "random number of this start")                                                                                 \
    U64(heartbeat_ns, GAUGE, "ns", "last turn of the control loop, CLOCK_MONOTONIC")                                                       \
    U64(draining, GAUGE, "", "1 while no new clients are let in, 2 while the daemon stops")                                                \
    U64(clients, GAUGE, "", "attached clients")                                                                                            \
    U64(groups, GAUGE, "", "group instances")                                                                                              \
    U64(plans, GAUGE, "", "plans")                                                                                                         \
    U64(memory_bytes, GAUGE, "bytes", "memory handed out: workspaces, rings, client memory")                                               \
    U64(clients_total, COUNTER, "", "clients ever attached")                                                                               \
    U64(clients_died, COUNTER, "", "clients that left without a word")                                                                     \
    U64(clients_expelled, COUNTER, "", "clients closed for a protocol violation or by an operator")                                        \
    U64(refusals, COUNTER, "", "requests answered with an error")                                                                          \
    U64(mismatches, COUNTER, "", "plans or runs on which ranks disagreed")                                                                 \
    U64(timeouts, COUNTER, "", "groups ended by a deadline")                                                                               \
    U64(executor_deaths, COUNTER, "", "executors that died")                                                                               \
    U64(reloads, COUNTER, "", "configurations applied")                                                                                    \
    U64(reload_failures, COUNTER, "", "configurations refused")                                                                            \
    U64(reload_refused, GAUGE, "", "1: the configuration was refused when it was last read again")                                         \
    TEXT(version, TCW_STATS_TEXT, "version of the daemon")                                                                                 \
    TEXT(node, TCW_STATS_TEXT, "name of the node")                                                                                         \
    TEXT(last_problem, TCW_TEXT_BYTES, "the latest problem, in words")                                                                     \
    U64(last_problem_ns, GAUGE, "ns", "when, CLOCK_REALTIME")                                                                              \
    TEXT(environment, TCW_STATS_ENVIRONMENT, "variables of CUDA and NCCL that executors of GPUs are started with")                         \
    U64(reload_kept, GAUGE, "", "changes of the configuration that are not in effect: refused when it was last read again")

#define TCW_STATS_DEVICE_FIELDS(U64, TEXT, ARRAY)                                                                                          \
    U64(device, ID, "", "device number")                                                                                                   \
    U64(kind, ID, "", "0 host, 1 cuda")                                                                                                    \
    U64(pid, ID, "", "executor process, 0 while none runs")                                                                                \
    U64(restarts, COUNTER, "", "executors started after a death")                                                                          \
    U64(failed, GAUGE, "", "1: dies too often, requests are refused")                                                                      \
    U64(heartbeat_ns, GAUGE, "ns", "last answer of the executor, CLOCK_MONOTONIC")                                                         \
    U64(attachments, GAUGE, "", "memberships it serves")                                                                                   \
    U64(memory_bytes, GAUGE, "bytes", "memory handed out on this device")                                                                  \
    TEXT(note, TCW_STATS_TEXT, "what is to be known: not built in, failed, ...")                                                           \
    U64(known, GAUGE, "", "1: the GPU has been opened, what follows is about it")                                                          \
    U64(compute, ID, "", "SM version, 90 for 9.0")                                                                                         \
    U64(multiprocessors, GAUGE, "", "multiprocessors")                                                                                     \
    U64(gpu_memory_bytes, GAUGE, "bytes", "memory of the GPU")                                                                             \
    U64(driver, ID, "", "CUDA version of the driver, 13000 for 13.0")                                                                      \
    U64(library, ID, "", "version of NCCL, 22803 for 2.28.3; 0 none")                                                                      \
    U64(mps, GAUGE, "", "1: its executor is a client of an MPS server")                                                                    \
    U64(fabric, GAUGE, "", "1: fabric handles can be made")                                                                                \
    U64(fd_export, GAUGE, "", "1: memory can be handed over as descriptors")                                                               \
    U64(stream_words, GAUGE, "", "1: streams can wait for words in memory")                                                                \
    TEXT(gpu, TCW_STATS_TEXT, "name of the GPU")                                                                                           \
    TEXT(uuid, TCW_STATS_TEXT, "its uuid")                                                                                                 \
    TEXT(pci, TCW_STATS_TEXT, "its PCI address")                                                                                           \
    TEXT(fabric_why, 96, "why there are no fabric handles")                                                                                \
    TEXT(library_why, 96, "why there is no NCCL")                                                                                          \
    TEXT(problem, TCW_TEXT_BYTES, "why nothing can run on it, in full")                                                                    \
    U64(unmapped_bits, ID, "bitmap", "numbers of devices whose memory this GPU cannot map")

#define TCW_STATS_CLIENT_FIELDS(U64, TEXT, ARRAY)                                                                                          \
    U64(client, ID, "", "client id")                                                                                                       \
    U64(pid, ID, "", "process id, from the socket")                                                                                        \
    U64(uid, ID, "", "user id, from the socket")                                                                                           \
    U64(device, ID, "", "device number, 2^64-1 while unbound")                                                                             \
    U64(attached_ns, GAUGE, "ns", "since, CLOCK_REALTIME")                                                                                 \
    U64(groups, GAUGE, "", "memberships")                                                                                                  \
    U64(plans, GAUGE, "", "plans")                                                                                                         \
    U64(memory_bytes, GAUGE, "bytes", "daemon memory it holds")                                                                            \
    U64(registered_bytes, GAUGE, "bytes", "own memory it registered")                                                                      \
    U64(in_flight_limit, GAUGE, "", "completion slots it holds")                                                                           \
    U64(requests, COUNTER, "", "control requests")                                                                                         \
    U64(refusals, COUNTER, "", "control requests answered with an error")                                                                  \
    TEXT(name, TCW_STATS_TEXT, "what it calls itself")

#define TCW_STATS_GROUP_FIELDS(U64, TEXT, ARRAY)                                                                                           \
    U64(group, ID, "", "group id of this instance")                                                                                        \
    U64(epoch, ID, "", "epoch")                                                                                                            \
    U64(size, GAUGE, "", "ranks")                                                                                                          \
    U64(joined, GAUGE, "", "ranks that have joined")                                                                                       \
    U64(state, GAUGE, "", "0 configured only, 1 forming, 2 ready, 3 broken")                                                               \
    U64(plans, GAUGE, "", "plans")                                                                                                         \
    U64(workspace_bytes, GAUGE, "bytes", "workspaces of all ranks and generations")                                                        \
    U64(workspace_generation, GAUGE, "", "newest workspace generation")                                                                    \
    U64(deadline_ns, GAUGE, "ns", "longest wait of one operation")                                                                         \
    U64(code, GAUGE, "", "broken: error code's magnitude")                                                                                 \
    U64(culprit, ID, "", "broken: rank to blame, 2^32-1 nobody")                                                                           \
    TEXT(name, TCW_STATS_TEXT, "name")                                                                                                     \
    TEXT(origin, TCW_STATS_TEXT, "configured or made by members")                                                                          \
    TEXT(problem, TCW_TEXT_BYTES, "broken: why, in words")                                                                                 \
    U64(communicator, ID, "", "communicator of its served operations on GPUs, 0 none yet; may have ended")

#define TCW_STATS_MEMBER_FIELDS(U64, TEXT, ARRAY)                                                                                          \
    U64(group, ID, "", "group id")                                                                                                         \
    U64(rank, ID, "", "rank")                                                                                                              \
    U64(client, ID, "", "client id, 0 while absent")                                                                                       \
    U64(pid, ID, "", "its process")                                                                                                        \
    U64(device, ID, "", "device number")                                                                                                   \
    U64(direct_started, COUNTER, "", "direct runs started")                                                                                \
    U64(direct_finished, COUNTER, "", "direct runs finished")                                                                              \
    U64(direct_hash, ID, "", "running hash of direct plans and token counts")                                                              \
    U64(direct_state, GAUGE, "", "0 idle, 1 running, 2 waiting, 3 failed")                                                                 \
    U64(direct_since_ns, GAUGE, "ns", "in this state since, CLOCK_MONOTONIC")                                                              \
    U64(direct_missing, GAUGE, "bitmap", "ranks it waits for")                                                                             \
    U64(served_started, COUNTER, "", "served runs started")                                                                                \
    U64(served_finished, COUNTER, "", "served runs finished")                                                                              \
    U64(served_hash, ID, "", "running hash of served plans and token counts")                                                              \
    U64(served_state, GAUGE, "", "0 idle, 1 running, 2 waiting, 3 failed")                                                                 \
    U64(served_since_ns, GAUGE, "ns", "in this state since, CLOCK_MONOTONIC")                                                              \
    U64(served_missing, GAUGE, "bitmap", "ranks it waits for")                                                                             \
    U64(bytes, COUNTER, "bytes", "payload of finished runs")                                                                               \
    U64(errors, COUNTER, "", "failed runs")                                                                                                \
    U64(busy_ns, COUNTER, "ns", "time inside runs")                                                                                        \
    U64(device_steps, COUNTER, "", "direct runs that the kernels of this rank have finished, replayed graphs included")                    \
    U64(device_since_ns, GAUGE, "ns", "their count stands still since, CLOCK_MONOTONIC")                                                   \
    U64(device_fault, GAUGE, "", "failure of its kernels: error code's magnitude, 0 none")                                                 \
    U64(device_culprit, ID, "", "rank that its kernels blame, 2^32-1 nobody")                                                              \
    U64(device_fault_step, ID, "", "run that failed")                                                                                      \
    U64(device_their_step, ID, "", "run of the blamed rank, as last seen")

#define TCW_STATS_LATENCY_FIELDS(U64, TEXT, ARRAY)                                                                                         \
    U64(op, ID, "", "operation number")                                                                                                    \
    U64(lane, ID, "", "1 direct, 2 served")                                                                                                \
    U64(size_class, ID, "", "message size class")                                                                                          \
    U64(size_limit, ID, "bytes", "largest message of the class")                                                                           \
    U64(count, COUNTER, "", "runs")                                                                                                        \
    ARRAY(buckets, TCW_LATENCY_BUCKETS, COUNTER, "", "runs per latency bucket, limits in the header")

#define TCW_STATS_RECORD_FIELDS(U64, TEXT, ARRAY)                                                                                          \
    U64(group, ID, "", "group id")                                                                                                         \
    U64(rank, ID, "", "rank")                                                                                                              \
    U64(lane, ID, "", "1 direct, 2 served")                                                                                                \
    U64(step, ID, "", "run number in the group and lane")                                                                                  \
    U64(plan_id, ID, "", "plan number in the group")                                                                                       \
    U64(op, ID, "", "operation")                                                                                                           \
    U64(strategy, ID, "", "strategy")                                                                                                      \
    U64(dtype, ID, "", "element type")                                                                                                     \
    U64(fusion, ID, "", "fused epilogue")                                                                                                  \
    U64(bytes, GAUGE, "bytes", "payload")                                                                                                  \
    U64(submit_ns, GAUGE, "ns", "submitted, CLOCK_MONOTONIC")                                                                              \
    U64(start_ns, GAUGE, "ns", "started")                                                                                                  \
    U64(end_ns, GAUGE, "ns", "ended, 0 while it runs")                                                                                     \
    U64(result, GAUGE, "", "error code's magnitude")                                                                                       \
    U64(gpu_clock, GAUGE, "", "1: recorded by kernels; the GPU's clock, moved to ours as well as it is known")

#define TCW_STATS_COMMUNICATOR_FIELDS(U64, TEXT, ARRAY)                                                                                    \
    U64(communicator, ID, "", "communicator id")                                                                                           \
    U64(size, GAUGE, "", "ranks")                                                                                                          \
    U64(state, GAUGE, "", "0 queued, 1 being made, 2 ready, 3 ended")                                                                      \
    U64(users, GAUGE, "", "group instances that use it")                                                                                   \
    U64(configured, GAUGE, "", "1: kept for a group of the configuration")                                                                 \
    U64(since_ns, GAUGE, "ns", "begun, CLOCK_MONOTONIC; 0 not yet")                                                                        \
    U64(took_ns, GAUGE, "ns", "time that making it took; 0 while it is not ready")                                                         \
    U64(bytes, GAUGE, "bytes", "memory of each GPU that it has taken, about, the largest of them; 0 not known")                            \
    U64(device_bits, ID, "bitmap", "device numbers")                                                                                       \
    TEXT(devices, TCW_TEXT_BYTES, "device numbers by rank")                                                                                \
    TEXT(problem, TCW_TEXT_BYTES, "ended: why, in words")

/* number, NAME, name: the tables. Append only. */
#define TCW_STATS_TABLES(T)                                                                                                                \
    T(1, DAEMON, daemon)                                                                                                                   \
    T(2, DEVICE, device)                                                                                                                   \
    T(3, CLIENT, client)                                                                                                                   \
    T(4, GROUP, group)                                                                                                                     \
    T(5, MEMBER, member)                                                                                                                   \
    T(6, LATENCY, latency)                                                                                                                 \
    T(7, RECORD, record)                                                                                                                   \
    T(8, COMMUNICATOR, communicator)

#define TCW_STATS_U64_MEMBER(member, kind, unit, help)          uint64_t member;
#define TCW_STATS_TEXT_MEMBER(member, bytes, help)              char member[bytes];
#define TCW_STATS_ARRAY_MEMBER(member, count, kind, unit, help) uint64_t member[count];
#define TCW_STATS_ROW(number, NAME, name)                                                                                                  \
    struct tcw_stats_##name {                                                                                                              \
        TCW_STATS_##NAME##_FIELDS(TCW_STATS_U64_MEMBER, TCW_STATS_TEXT_MEMBER, TCW_STATS_ARRAY_MEMBER)                                     \
    };
TCW_STATS_TABLES(TCW_STATS_ROW)
#undef TCW_STATS_ROW
#undef TCW_STATS_U64_MEMBER
#undef TCW_STATS_TEXT_MEMBER
#undef TCW_STATS_ARRAY_MEMBER

typedef enum tcw_stats_table {
#define TCW_STATS_NUMBER(number, NAME, name) TCW_STATS_TABLE_##NAME = (number),
    TCW_STATS_TABLES(TCW_STATS_NUMBER)
#undef TCW_STATS_NUMBER
} tcw_stats_table;

#endif
