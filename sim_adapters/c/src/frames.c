/* Reading one frame back from staging, for a restart from it. */
#include "internal.h"

#include <stdio.h>

static int cannot(const char *simulation, int64_t offset, const char *why)
{
    return hr_fail(HR_ERROR_COMMAND, "Frame %lld of '%.128s' cannot be read: %s.",
                   (long long)offset, simulation, why);
}

/* Copy the row of one part, which came as bytes, into the arrays of the frame. */
static bool take_part(const hr_schema *schema, const hr_part *part, uint64_t row, hr_span bytes,
                      hr_state *out)
{
    uint64_t wanted = part->capacity <= UINT32_MAX
                          ? hr_layout_bytes(schema, part->capacity, part->lead, part->ids) : 0;
    if (part->lead > (int64_t)HR_MAX_FRAME || wanted != bytes.size || row >= part->count ||
        part->count != part->capacity)
        return false;
    hr_layout *layout = hr_layout_new(schema, part->capacity, part->lead, part->ids);
    if (layout == NULL)
        return false;
    bool good = hr_layout_checksum(layout, bytes.data, 0, part->count) == part->checksum;
    size_t at = part->ids ? 4 : 3;
    const uint8_t *ids = bytes.data + (part->ids ? layout->columns[3][1] : 0) +
                         (part->ids ? row * layout->columns[3][0] : 0);
    for (size_t i = 0; i < schema->n_variables && good; i++, at++) {
        const hr_variable *v = &schema->variables[i];
        uint64_t size = layout->columns[at][0];
        const uint8_t *from = bytes.data + layout->columns[at][1] + row * size;
        uint8_t *to = (uint8_t *)out->arrays[i].data;
        uint64_t all = hr_variable_bytes(v, -1);
        if (part->lead < 0 || !v->decomposed) {
            if (part->lead < 0 || part->rank == 0)
                memcpy(to, from, all);
            continue;
        }
        uint64_t one = v->shape[0] > 0 ? all / (uint64_t)v->shape[0] : 0;
        for (int64_t k = 0; k < part->lead && good; k++) {
            int64_t id = part->start + k;
            if (part->ids)
                memcpy(&id, ids + 8 * (uint64_t)k, 8);
            good = id >= 0 && id < v->shape[0];
            if (good)
                memcpy(to + (uint64_t)id * one, from + (uint64_t)k * one, one);
        }
    }
    free(layout);
    return good;
}

static bool make_arrays(const hr_schema *schema, hr_state *out)
{
    uint64_t size = 0;
    for (size_t i = 0; i < schema->n_variables; i++)
        size += hr_aligned(hr_variable_bytes(&schema->variables[i], -1));
    out->arrays = calloc(schema->n_variables + 1, sizeof *out->arrays);
    out->own = calloc(1, (size_t)size + 1);
    if (out->arrays == NULL || out->own == NULL)
        return false;
    size = 0;
    for (size_t i = 0; i < schema->n_variables; i++) {
        const hr_variable *v = &schema->variables[i];
        hr_array *array = &out->arrays[out->n];
        array->name = hr_copy(v->name);
        if (array->name == NULL)
            return false;
        memcpy(array->dtype, v->dtype, sizeof array->dtype);
        array->itemsize = v->itemsize;
        array->count = (size_t)(hr_variable_bytes(v, -1) / v->itemsize);
        array->data = out->own + size;
        size += hr_aligned(hr_variable_bytes(v, -1));
        out->n++;
    }
    return true;
}

static bool take_frame(const hr_message *message, const hr_reply *reply, int64_t offset,
                       hr_schema *schema, hr_state *out)
{
    hr_reader r = hr_reader_of(reply->list.data, reply->list.size);
    hr_slice slice;
    if (hr_read_array(&r) < 1 || !hr_read_slice(&r, &slice) || slice.schema.size == 0 ||
        !hr_schema_decoded(schema, slice.schema) || !make_arrays(schema, out))
        return false;
    hr_reader entries = hr_reader_of(slice.entries.data, slice.entries.size);
    size_t n = slice.entries.size ? hr_read_array(&entries) : 0, at = 1;
    for (size_t i = 0; i < n; i++) {
        size_t fields = hr_read_array(&entries);
        int64_t first = hr_read_int(&entries), count = hr_read_int(&entries);
        size_t parts = hr_read_array(&entries);
        bool here = !entries.failed && first <= offset && offset - first < count;
        for (size_t k = 0; k < parts; k++, at++) {
            hr_part part;
            if (!hr_read_part(&entries, &part) || at >= message->n)
                return false;
            if (here && !take_part(schema, &part, (uint64_t)(offset - first),
                                   hr_message_part(message, at), out))
                return false;
        }
        for (size_t f = 3; f < fields; f++)
            hr_read_any(&entries);
        if (here)
            return parts > 0;
    }
    return false;
}

int hr_read_frame(hr_stream *s, const char *simulation, int64_t offset, hr_state *out)
{
    char topic[HR_MAX_NAME + 16];
    hr_session session;
    hr_message message = {0};
    hr_buffer head = {0};
    hr_schema schema;
    hr_reply reply;
    memset(&session, 0, sizeof session);
    memset(&schema, 0, sizeof schema);
    int code = hr_check_name(simulation, "simulation");
    if (code < 0)
        return code;
    snprintf(topic, sizeof topic, "frames/%s", simulation);
    char *found = hr_find_stager(s->stager, s->run_directory, s->timeout);
    session.address = found == NULL ? NULL : hr_owner(found, simulation);
    free(found);
    if (session.address == NULL)
        return hr_last_code();
    session.name = s->simulation;
    session.keys = s->session.keys;
    session.wanted = 0;
    session.timeout = s->timeout;
    code = hr_session_open(&session);
    if (code == HR_OK) {
        hr_topic_offset from = {topic, offset};
        hr_fetch fetch = {&from, NULL, 1, 0, "", "", 1, 1, 0.0, 0, false, NULL, 0, true};
        uint64_t number = ++session.number;
        hr_say_fetch(&head, number, &fetch);
        code = hr_session_ask(&session, &head, number, HR_FETCHED, 0.0, &message, &reply);
        if (code < 0)
            code = cannot(simulation, offset, hr_last_error());
        else if (!take_frame(&message, &reply, offset, &schema, out)) {
            hr_state_free(out);
            code = cannot(simulation, offset, "it was released, or is damaged");
        }
        hr_message_free(&message);
        hr_session_close(&session);
    }
    hr_schema_free(&schema);
    free(session.address);
    return code;
}
