/* What the stager answers. Fields that a later release adds behind ours are passed over. */
#include "internal.h"

static int unreadable(void)
{
    return hr_fail(HR_ERROR_PROTOCOL, "The stager sent a message that cannot be read; check that "
                                      "both sides are of the same release of Headrace.");
}

static const struct {
    const char *name;
    hr_reply_kind kind;
    const char *fields; /* t text, i number, b boolean, d real, l list */
} known[] = {
    {"Welcome", HR_WELCOME, "tttt"},   {"Opened", HR_OPENED, "iiiidi"}, {"Leased", HR_LEASED, "iti"},
    {"Ack", HR_ACK, "ii"},             {"Appended", HR_APPENDED, "ibi"}, {"Fetched", HR_FETCHED, "il"},
    {"Topics", HR_TOPICS, "l"},        {"Done", HR_DONE, ""},            {"Refused", HR_REFUSED, "tt"},
};

int hr_decode_reply(hr_reply *reply, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    hr_reader r;
    memset(reply, 0, sizeof *reply);
    if (size < 4 || memcmp(bytes, "HR", 2) != 0)
        return hr_fail(HR_ERROR_PROTOCOL, "A peer sent something that is not Headrace's protocol; "
                                          "check the stager's address.");
    if (bytes[2] != HEADRACE_WIRE_VERSION || bytes[3] != 0)
        return hr_fail(HR_ERROR_VERSION,
                       "The stager speaks protocol version %d, this library version %d; install "
                       "the same release of Headrace on both sides.",
                       bytes[2] + 256 * bytes[3], HEADRACE_WIRE_VERSION);
    r = hr_reader_of(bytes + 4, size - 4);
    size_t n = hr_read_array(&r);
    hr_span name = hr_read_text(&r);
    reply->request = hr_read_uint(&r);
    if (r.failed || n < 2)
        return unreadable();
    const char *fields = "";
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (hr_span_is(name, known[i].name)) {
            reply->kind = known[i].kind;
            fields = known[i].fields;
        }
    size_t texts = 0, numbers = 0;
    size_t n_known = strlen(fields);
    for (size_t i = 0; i + 2 < n && !r.failed; i++)
        switch (i < n_known ? fields[i] : 0) {
        case 't': reply->texts[texts++] = hr_read_text(&r); break;
        case 'i': reply->numbers[numbers++] = hr_read_int(&r); break;
        case 'b': reply->numbers[numbers++] = hr_read_bool(&r); break;
        case 'd': reply->time = hr_read_double(&r); break;
        case 'l': reply->list = hr_read_any(&r); break;
        default: hr_read_any(&r);
        }
    /* Fields with a default may be missing only where Welcome and Ack have them. */
    bool whole = n - 2 >= n_known || reply->kind == HR_ACK || reply->kind == HR_WELCOME ||
                 (reply->kind == HR_FETCHED && n >= 4);
    return r.failed || !whole ? unreadable() : HR_OK;
}

bool hr_read_slice(hr_reader *r, hr_slice *slice)
{
    size_t n = hr_read_array(r);
    memset(slice, 0, sizeof *slice);
    slice->topic = hr_read_text(r);
    slice->position = hr_read_int(r);
    slice->low = hr_read_int(r);
    slice->end = hr_read_int(r);
    slice->finished = hr_read_bool(r);
    if (n > 5)
        slice->entries = hr_read_any(r);
    if (n > 6)
        slice->records = hr_read_any(r);
    if (n > 7 && !hr_read_nil(r))
        slice->schema = hr_read_any(r);
    for (size_t i = 8; i < n; i++)
        hr_read_any(r);
    return !r->failed;
}

bool hr_read_part(hr_reader *r, hr_part *part)
{
    size_t n = hr_read_array(r);
    memset(part, 0, sizeof *part);
    part->segment = hr_read_int(r);
    part->position = hr_read_uint(r);
    part->capacity = hr_read_uint(r);
    part->row = hr_read_uint(r);
    part->count = hr_read_uint(r);
    part->checksum = hr_read_uint(r);
    part->lead = n > 6 ? hr_read_int(r) : -1;
    part->ids = n > 7 && hr_read_bool(r);
    part->start = n > 8 ? hr_read_int(r) : 0;
    part->rank = n > 9 ? hr_read_int(r) : 0;
    for (size_t i = 10; i < n; i++)
        hr_read_any(r);
    return !r->failed;
}

bool hr_read_topic(hr_reader *r, hr_topic_state *state)
{
    size_t n = hr_read_map(r);
    memset(state, 0, sizeof *state);
    for (size_t i = 0; i < n && !r->failed; i++) {
        hr_span key = hr_read_text(r);
        if (hr_span_is(key, "name"))
            state->name = hr_read_text(r);
        else if (hr_span_is(key, "low"))
            state->low = hr_read_int(r);
        else if (hr_span_is(key, "end"))
            state->end = hr_read_int(r);
        else if (hr_span_is(key, "groups"))
            state->groups = hr_read_any(r);
        else
            hr_read_any(r);
    }
    return !r->failed;
}

int64_t hr_group_offset(hr_span groups, const char *group)
{
    hr_reader r = hr_reader_of(groups.data, groups.size);
    size_t n = groups.size ? hr_read_map(&r) : 0;
    for (size_t i = 0; i < n && !r.failed; i++) {
        hr_span name = hr_read_text(&r);
        int64_t offset = hr_read_int(&r);
        if (!r.failed && hr_span_is(name, group))
            return offset;
    }
    return -1;
}
