/*
 * From the merged JSON tree to struct tcf_config, in parts: each reads its corner, complains about everything wrong in it and goes on, so
 * that one run shows all errors. After a complaint the configuration is unfit for use but safe to look at. Owner: tcf_config_load, on its
 * stack. Threads: one.
 */
#ifndef TCF_SRC_READER_H
#define TCF_SRC_READER_H

#include "value.h"

struct tcf_reader {
    const struct tcf_value *root;
    struct tcf_config *config;
    struct tcf_issues *issues;
    bool topology_good; /* nodes and devices are complete: groups can be checked against them */
};

/* Scalars, and complaints about unknown keys of the root. */
void tcf_read_options(const struct tcf_reader *reader);
/* nodes or devices; fills local_node. After the options: `node` names the local one. */
void tcf_read_topology(const struct tcf_reader *reader);
/* groups. After the topology. False: out of memory. */
bool tcf_read_groups(const struct tcf_reader *reader);
/* access and admin of the root. */
void tcf_read_access(const struct tcf_reader *reader);
/* What concerns more than one value. Last. */
void tcf_check_consistency(const struct tcf_reader *reader);

/* uids and gids of one access object; NULL: nothing to read. */
void tcf_access_read(const struct tcf_value *value, struct tcf_access *access, struct tcf_issues *issues);
/* A name of a node or group: 1 to 63 bytes of [A-Za-z0-9._:/-]. Complains and returns false otherwise. `out` has TCW_NAME_BYTES. */
bool tcf_read_name(const struct tcf_value *owner, const struct tcf_value *value, char *out, struct tcf_issues *issues);
/* A member that must be there; complains otherwise. */
const struct tcf_value *tcf_read_member(const struct tcf_value *object, const char *key, struct tcf_issues *issues);

#endif
