/* What a producer says to the stager; bridge/staging/messages.py lists the fields. */
#include "internal.h"

static void begin(hr_buffer *b, const char *name, size_t n_fields, uint64_t number)
{
    static const uint8_t head[] = {'H', 'R', HEADRACE_WIRE_VERSION, 0};
    hr_write_bytes(b, head, sizeof head);
    hr_write_array(b, n_fields + 2);
    hr_write_text(b, name);
    hr_write_uint(b, number);
}

static void write_offsets(hr_buffer *b, const hr_topic_offset *offsets, size_t n)
{
    hr_write_map(b, n);
    for (size_t i = 0; i < n; i++) {
        hr_write_text(b, offsets[i].topic);
        hr_write_int(b, offsets[i].offset);
    }
}

void hr_write_options(hr_buffer *b, const hr_options *o)
{
    bool full = strcmp(o->when_full, "block") != 0, capacity = o->capacity != 256 << 20;
    bool segment = o->segment != 0, keep = o->keep != 32 << 20;
    hr_write_map(b, (size_t)full + capacity + segment + keep);
    if (full) {
        hr_write_text(b, "when_full");
        hr_write_text(b, o->when_full);
    }
    if (capacity) {
        hr_write_text(b, "capacity");
        hr_write_int(b, o->capacity);
    }
    if (segment) {
        hr_write_text(b, "segment");
        hr_write_int(b, o->segment);
    }
    if (keep) {
        hr_write_text(b, "keep");
        hr_write_int(b, o->keep);
    }
}

static void write_text_field(hr_buffer *b, const char *name, const char *text)
{
    hr_write_text(b, name);
    hr_write_text(b, text);
}

void hr_write_capability(hr_buffer *b, const hr_capability_entry *c)
{
    bool low = !(isinf(c->minimum) && c->minimum < 0), high = !(isinf(c->maximum) && c->maximum > 0);
    hr_write_map(b, 1 + (size_t)(*c->parameter != 0) + low + high + (*c->unit != 0) +
                        (*c->description != 0));
    write_text_field(b, "kind", c->kind);
    if (*c->parameter)
        write_text_field(b, "parameter", c->parameter);
    if (low) {
        hr_write_text(b, "minimum");
        hr_write_double(b, c->minimum);
    }
    if (high) {
        hr_write_text(b, "maximum");
        hr_write_double(b, c->maximum);
    }
    if (*c->unit)
        write_text_field(b, "unit", c->unit);
    if (*c->description)
        write_text_field(b, "description", c->description);
}

void hr_say_hello(hr_buffer *b, uint64_t number, const char *name, const char *release)
{
    begin(b, "Hello", 2, number);
    hr_write_text(b, name);
    hr_write_text(b, release);
}

void hr_say_open(hr_buffer *b, uint64_t number, const char *simulation, const hr_schema *schema,
                 const hr_options *options, const char *token, int64_t incarnation, int64_t rank,
                 const hr_capability_entry *capabilities, size_t n, uint64_t sequence)
{
    begin(b, "OpenStream", 8, number);
    hr_write_text(b, simulation);
    hr_write_schema(b, schema);
    hr_write_options(b, options);
    hr_write_text(b, token);
    hr_write_int(b, incarnation);
    hr_write_int(b, rank);
    hr_write_array(b, n);
    for (size_t i = 0; i < n; i++)
        hr_write_capability(b, &capabilities[i]);
    hr_write_uint(b, sequence);
}

void hr_say_lease(hr_buffer *b, uint64_t number, const char *simulation, int64_t incarnation,
                  uint64_t size, int64_t rank)
{
    begin(b, "Lease", 4, number);
    hr_write_text(b, simulation);
    hr_write_int(b, incarnation);
    hr_write_uint(b, size);
    hr_write_int(b, rank);
}

static void write_part(hr_buffer *b, const hr_part *p)
{
    hr_write_array(b, 10);
    hr_write_int(b, p->segment);
    hr_write_uint(b, p->position);
    hr_write_uint(b, p->capacity);
    hr_write_uint(b, p->row);
    hr_write_uint(b, p->count);
    hr_write_uint(b, p->checksum);
    hr_write_int(b, p->lead);
    hr_write_bool(b, p->ids);
    hr_write_int(b, p->start);
    hr_write_int(b, p->rank);
}

void hr_say_commit(hr_buffer *b, uint64_t number, const hr_commit *c)
{
    begin(b, "Commit", 11, number);
    hr_write_text(b, c->simulation);
    hr_write_int(b, c->incarnation);
    hr_write_uint(b, c->sequence);
    hr_write_array(b, c->n);
    for (size_t i = 0; i < c->n; i++)
        write_part(b, &c->parts[i]);
    hr_write_array(b, c->n);
    for (size_t i = 0; i < c->n; i++)
        hr_write_int(b, c->steps[i]);
    hr_write_array(b, c->n);
    for (size_t i = 0; i < c->n; i++)
        hr_write_double(b, c->times[i]);
    hr_write_array(b, c->n);
    for (size_t i = 0; i < c->n; i++)
        hr_write_int(b, c->epochs[i]);
    hr_write_double(b, c->stamp);
    hr_write_bool(b, c->is_inline);
    hr_write_int(b, c->rank);
    hr_write_int(b, c->dropped);
}

void hr_say_fetch(hr_buffer *b, uint64_t number, const hr_fetch *f)
{
    begin(b, "Fetch", 11, number);
    write_offsets(b, f->positions, f->n_positions);
    hr_write_text(b, f->follow);
    hr_write_text(b, f->group);
    write_offsets(b, f->commits, f->n_commits);
    hr_write_int(b, f->max_frames);
    hr_write_int(b, f->max_bytes);
    hr_write_double(b, f->wait);
    hr_write_int(b, f->released);
    hr_write_bool(b, f->mapped);
    hr_write_array(b, f->n_done);
    for (size_t i = 0; i < f->n_done; i++)
        hr_write_text(b, f->done[i]);
    hr_write_bool(b, f->fresh);
}

void hr_say_append(hr_buffer *b, uint64_t number, const char *topic, const char *writer,
                   int64_t first, int64_t stop, double stamp, const hr_options *options)
{
    begin(b, "Append", 6, number);
    hr_write_text(b, topic);
    hr_write_text(b, writer);
    hr_write_int(b, first);
    hr_write_int(b, stop);
    hr_write_double(b, stamp);
    if (options == NULL)
        hr_write_nil(b);
    else
        hr_write_options(b, options);
}

void hr_say_offsets(hr_buffer *b, uint64_t number, const char *group,
                    const hr_topic_offset *offsets, size_t n, int64_t released)
{
    begin(b, "CommitOffsets", 3, number);
    hr_write_text(b, group);
    write_offsets(b, offsets, n);
    hr_write_int(b, released);
}

void hr_say_query(hr_buffer *b, uint64_t number, const char *prefix, bool schemas)
{
    begin(b, "QueryTopics", 2, number);
    hr_write_text(b, prefix);
    hr_write_bool(b, schemas);
}

void hr_say_ping(hr_buffer *b, uint64_t number, int64_t released)
{
    begin(b, "Ping", 1, number);
    hr_write_int(b, released);
}

void hr_say_bye(hr_buffer *b, uint64_t number, const char *simulation, int64_t incarnation,
                int64_t rank, bool finished, int64_t dropped, const char *reason)
{
    begin(b, "Bye", 6, number);
    hr_write_text(b, simulation);
    hr_write_int(b, incarnation);
    hr_write_int(b, rank);
    hr_write_bool(b, finished);
    hr_write_int(b, dropped);
    hr_write_text(b, reason);
}
