/* The field lists of tcw/stats.h as tables. */
#include <tcw/stats_layout.h>

#define U64(member, kind, unit, help)          {#member, unit, help, TCW_STATS_TYPE_U64, TCW_STATS_##kind, offsetof(ROW, member), 1},
#define ARRAY(member, count, kind, unit, help) {#member, unit, help, TCW_STATS_TYPE_U64, TCW_STATS_##kind, offsetof(ROW, member), count},
#define TEXT(member, bytes, help)              {#member, "", help, TCW_STATS_TYPE_TEXT, 0, offsetof(ROW, member), bytes},

#define ROW struct tcw_stats_daemon
static const struct tcw_stats_field_entry daemon_fields[] = {TCW_STATS_DAEMON_FIELDS(U64, TEXT, ARRAY)};
#undef ROW
#define ROW struct tcw_stats_device
static const struct tcw_stats_field_entry device_fields[] = {TCW_STATS_DEVICE_FIELDS(U64, TEXT, ARRAY)};
#undef ROW
#define ROW struct tcw_stats_client
static const struct tcw_stats_field_entry client_fields[] = {TCW_STATS_CLIENT_FIELDS(U64, TEXT, ARRAY)};
#undef ROW
#define ROW struct tcw_stats_group
static const struct tcw_stats_field_entry group_fields[] = {TCW_STATS_GROUP_FIELDS(U64, TEXT, ARRAY)};
#undef ROW
#define ROW struct tcw_stats_member
static const struct tcw_stats_field_entry member_fields[] = {TCW_STATS_MEMBER_FIELDS(U64, TEXT, ARRAY)};
#undef ROW
#define ROW struct tcw_stats_latency
static const struct tcw_stats_field_entry latency_fields[] = {TCW_STATS_LATENCY_FIELDS(U64, TEXT, ARRAY)};
#undef ROW
#define ROW struct tcw_stats_record
static const struct tcw_stats_field_entry record_fields[] = {TCW_STATS_RECORD_FIELDS(U64, TEXT, ARRAY)};
#undef ROW
#define ROW struct tcw_stats_communicator
static const struct tcw_stats_field_entry communicator_fields[] = {TCW_STATS_COMMUNICATOR_FIELDS(U64, TEXT, ARRAY)};
#undef ROW

#define TABLE(number, NAME, name)                                                                                                          \
    {#name, number, sizeof(struct tcw_stats_##name), sizeof name##_fields / sizeof name##_fields[0], name##_fields},
const struct tcw_stats_schema_table tcw_stats_schema[] = {TCW_STATS_TABLES(TABLE)};
const uint32_t tcw_stats_schema_tables = sizeof tcw_stats_schema / sizeof tcw_stats_schema[0];

const struct tcw_stats_schema_table *tcw_stats_schema_find(uint32_t number)
{
    for (uint32_t i = 0; i < tcw_stats_schema_tables; ++i)
        if (tcw_stats_schema[i].number == number)
            return &tcw_stats_schema[i];
    return NULL;
}
