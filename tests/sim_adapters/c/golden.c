/* Prints encodings as "name hexadecimal", or reads such lines and prints what they hold. */
#include <stdio.h>

#include "../../../sim_adapters/c/src/internal.h"

static void show(const char *name, const void *data, size_t size)
{
    printf("%s ", name);
    for (size_t i = 0; i < size; i++)
        printf("%02x", ((const uint8_t *)data)[i]);
    printf("\n");
}

static void show_message(const char *name, hr_buffer *b)
{
    show(name, b->data, b->size);
    hr_buffer_free(b);
}

static hr_stream *describe(void)
{
    static const char *const names[] = {"C1", "O2"};
    static const int64_t shape[] = {2, 3}, bond[] = {0, 1};
    hr_stream *s;
    if (hr_new(&s, "w") < 0 || hr_set(s, "time_unit", "ps") < 0 || hr_set(s, "selection", "all") < 0 ||
        hr_declare(s, "positions", HR_FLOAT32, 2, shape, "nm", 0) < 0 ||
        hr_declare(s, "energy", "f8", 0, NULL, "kJ/mol", 0) < 0 ||
        hr_describe(s, "energy", "Potential energy.") < 0 ||
        hr_particles(s, 2, names, NULL, NULL, NULL, NULL) < 0 || hr_bonds(s, 1, bond) < 0 ||
        hr_attribute(s, "engine", "test") < 0 || hr_set(s, "when_full", "drop_oldest") < 0 ||
        hr_set_number(s, "capacity", 1 << 20) < 0 ||
        hr_capability(s, "set", "T", 250.0, 400.0, "K", NULL) < 0)
        fprintf(stderr, "%s\n", hr_last_error());
    return s;
}

/* Columns as test_golden.py fills them: counted up from the column's number. */
static void show_chunk(const char *name, const hr_schema *schema, uint64_t capacity, int64_t lead,
                       bool ids)
{
    char label[64];
    hr_layout *layout = hr_layout_new(schema, capacity, lead, ids);
    uint8_t *data = calloc(1, layout->nbytes);
    for (size_t c = 0; c < layout->n_columns; c++) {
        size_t fixed = ids ? 4 : 3;
        uint32_t itemsize = c >= fixed ? schema->variables[c - fixed].itemsize : c == 2 ? 4 : 8;
        char kind = c >= fixed ? (itemsize == 4 ? 'f' : 'd') : c == 1 ? 'd' : c == 2 ? 'i' : 'q';
        size_t n = (size_t)(layout->columns[c][0] * capacity / itemsize);
        for (size_t i = 0; i < n; i++) {
            uint8_t *at = data + layout->columns[c][1] + i * itemsize;
            int64_t q = (int64_t)(i + c);
            int32_t l = (int32_t)q;
            double d = (double)q;
            float f = (float)q;
            memcpy(at, kind == 'q' ? (void *)&q : kind == 'd' ? (void *)&d
                       : kind == 'f' ? (void *)&f : (void *)&l, itemsize);
        }
    }
    uint64_t sum = hr_layout_checksum(layout, data, 0, capacity);
    snprintf(label, sizeof label, "chunk/%s", name);
    show(label, data, layout->nbytes);
    snprintf(label, sizeof label, "chunk/%s/xxh3", name);
    show(label, &sum, 8);
    uint8_t *packed = malloc(hr_layout_packed(layout, capacity));
    hr_layout_pack(layout, data, 0, capacity, packed);
    if (memcmp(packed, data, layout->nbytes) != 0)
        fprintf(stderr, "packed differently\n");
    free(packed);
    free(data);
    free(layout);
}

static void encode(void)
{
    hr_buffer b = {0};
    hr_stream *s = describe();
    hr_say_hello(&b, 1, "client", "0.1.0");
    show_message("message/hello", &b);
    hr_say_open(&b, 2, "w", &s->schema, &s->options, "token", 3, 1, s->capabilities, 1, 17);
    show_message("message/open_stream", &b);
    hr_say_lease(&b, 3, "w", 1, 4096, 1);
    show_message("message/lease", &b);
    hr_part parts[] = {{7, 1024, 16, 3, 5, 0x0123456789ABCDEF, -1, false, 0, 0},
                       {8, 0, 1, 0, 1, 42, 3, true, 1, 1}};
    int64_t steps[] = {10, 20}, epochs[] = {0, 1};
    double times[] = {0.5, 1.0};
    hr_commit commit = {"w", 1, 100, 2, parts, steps, epochs, times, 1.5e9, false, 1, 2};
    hr_say_commit(&b, 4, &commit);
    show_message("message/commit", &b);
    const char *done[] = {"x"};
    hr_topic_offset at = {"frames/w", 9}, committed = {"frames/w", 4}, gone = {"frames/w", -1};
    hr_fetch fetch = {&at, &committed, 1, 1, "frames/", "g", 10, 20, 0.5, 6, false, done, 1, true};
    hr_say_fetch(&b, 5, &fetch);
    show_message("message/fetch", &b);
    hr_say_append(&b, 6, "results/p/w", "p", 0, 10, 1.5e9, &s->options);
    show_message("message/append", &b);
    hr_say_offsets(&b, 7, "g", &gone, 1, 3);
    show_message("message/commit_offsets", &b);
    hr_say_query(&b, 8, "frames/", true);
    show_message("message/query_topics", &b);
    hr_say_ping(&b, 9, 4);
    show_message("message/ping", &b);
    hr_say_bye(&b, 10, "w", 1, 0, true, 5, "out of memory");
    show_message("message/bye", &b);
    show_chunk("frames", &s->schema, 3, -1, false);
    hr_free(&s);
    int64_t rows[] = {4, 3};
    hr_new(&s, "w");
    hr_declare(s, "x", HR_FLOAT32, 2, rows, NULL, HR_DECOMPOSED);
    show_chunk("block", &s->schema, 1, 3, false);
    show_chunk("block_ids", &s->schema, 1, 3, true);
    hr_free(&s);
}

static void tell_reply(const char *name, const uint8_t *data, size_t size)
{
    hr_reply r;
    if (hr_decode_reply(&r, data, size) < 0) {
        printf("%s error %s\n", name, hr_last_error());
        return;
    }
    printf("%s kind=%d request=%llu time=%g", name, (int)r.kind, (unsigned long long)r.request,
           r.time);
    for (int i = 0; i < 4; i++)
        printf(" %.*s", (int)r.texts[i].size, r.texts[i].size ? (const char *)r.texts[i].data : "");
    for (int i = 0; i < 6; i++)
        printf(" %lld", (long long)r.numbers[i]);
    hr_reader list = hr_reader_of(r.list.data, r.list.size);
    size_t n = r.list.size ? hr_read_array(&list) : 0;
    for (size_t i = 0; i < n && r.kind == HR_FETCHED; i++) {
        hr_slice slice;
        hr_schema schema = {0};
        if (!hr_read_slice(&list, &slice))
            break;
        printf(" [%.*s %lld %lld %lld %d %zu %zu", (int)slice.topic.size,
               (const char *)slice.topic.data, (long long)slice.position, (long long)slice.low,
               (long long)slice.end, slice.finished, slice.entries.size, slice.records.size);
        if (slice.schema.size && hr_schema_decoded(&schema, slice.schema))
            printf(" %s %s", schema.variables[0].name, schema.variables[1].dtype);
        hr_schema_free(&schema);
        printf("]");
    }
    for (size_t i = 0; i < n && r.kind == HR_TOPICS; i++) {
        hr_topic_state state;
        if (hr_read_topic(&list, &state))
            printf(" [%.*s %lld %lld g=%lld]", (int)state.name.size, (const char *)state.name.data,
                   (long long)state.low, (long long)state.end,
                   (long long)hr_group_offset(state.groups, "g"));
    }
    printf("\n");
}

static void tell_state(const char *name, const uint8_t *data, size_t size)
{
    hr_span bytes = {data, size};
    hr_state state;
    if (hr_decode_state(&state, bytes) < 0) {
        printf("%s error %s\n", name, hr_last_error());
        return;
    }
    printf("%s", name);
    for (size_t i = 0; i < state.n; i++) {
        double *values = malloc(state.arrays[i].count * sizeof *values + 1);
        int code = hr_array_doubles(&state.arrays[i], values);
        printf(" %s %s %d", state.arrays[i].name, state.arrays[i].dtype, code);
        for (size_t k = 0; k < state.arrays[i].count && code == 0; k++)
            printf(" %g", values[k]);
        free(values);
    }
    printf(" plain=%zu\n", state.plain.size);
    hr_state_free(&state);
}

static void decode(void)
{
    static char line[1 << 16], name[256];
    while (fgets(line, sizeof line, stdin) != NULL) {
        int used = 0;
        sscanf(line, "%255s %n", name, &used);
        size_t size = strcspn(line + used, "\n") / 2;
        uint8_t *data = malloc(size + 1);
        for (size_t i = 0; i < size; i++) {
            unsigned byte = 0;
            sscanf(line + used + 2 * i, "%2x", &byte);
            data[i] = (uint8_t)byte;
        }
        /* Exactly as large as it is: the sanitizer sees each byte that is read beyond. */
        uint8_t *exact = malloc(size ? size : 1);
        memcpy(exact, data, size);
        free(data);
        if (strncmp(name, "state", 5) == 0)
            tell_state(name, exact, size);
        else if (strncmp(name, "command", 7) == 0) {
            hr_span span = {exact, size};
            hr_command *c = hr_command_decode(span);
            double value = NAN;
            printf("%s %s %s %g %d\n", name, c == NULL ? "none" : c->id, hr_command_kind(c),
                   hr_command_value(c), c == NULL ? 0 : hr_command_number(c, "rank", &value));
            hr_command_free(c);
        } else
            tell_reply(name, exact, size);
        free(exact);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "decode") == 0)
        decode();
    else
        encode();
    return 0;
}
