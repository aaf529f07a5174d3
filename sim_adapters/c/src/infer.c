/* Asking models that are served beside: see bridge/staging/inference.py for the records. */
#include "internal.h"

#include <stdio.h>
#include <zmq.h>

#define RETRY_AFTER 5.0 /* seconds for which a service that did not answer is not asked again */
#define OPTIONS_CAPACITY ((int64_t)1 << 30)
#define MAX_COLUMNS 64

typedef struct hr_input {
    hr_array array;
    int64_t shape[2];
    int ndim;
} hr_input;

struct hr_model {
    hr_stream *stream;
    char service[HR_MAX_NAME + 1], asker[HR_MAX_NAME + 32];
    char requests[HR_MAX_NAME + 16], replies[HR_MAX_NAME + 48], life[33];
    hr_session ask, hear; /* the same stager has both topics, or two have */
    bool together;
    int64_t position;
    uint64_t count;
    double away_until;
    hr_input inputs[MAX_COLUMNS];
    size_t n_inputs;
    int64_t rows;
    hr_message message; /* the newest reply, and the state in it */
    hr_state reply;
    const hr_array *valid;
    char reason[HR_TEXT];
};

static hr_session *hearing(hr_model *m)
{
    return m->together ? &m->ask : &m->hear;
}

static void forget_inputs(hr_model *m)
{
    for (size_t i = 0; i < m->n_inputs; i++) {
        free(m->inputs[i].array.name);
        free((void *)m->inputs[i].array.data);
    }
    m->n_inputs = 0;
    m->rows = 0;
}

static void forget_reply(hr_model *m)
{
    hr_state_free(&m->reply);
    hr_message_free(&m->message);
    m->valid = NULL;
}

/* No answer: the simulation computes for itself, and asks again later. */
static int nothing(hr_model *m, bool away, const char *why)
{
    forget_reply(m);
    snprintf(m->reason, sizeof m->reason, "%s", why);
    if (away)
        m->away_until = hr_monotonic() + RETRY_AFTER;
    return HR_NONE;
}

/* ------------------------------------------------------------------- connection */

static int connect_for(hr_model *m, hr_session *session, const char *found, const char *topic)
{
    const hr_stream *s = m->stream;
    session->address = hr_owner(found, topic);
    if (session->address == NULL)
        return hr_last_code();
    session->name = m->asker;
    session->keys = s->session.keys;
    session->wanted = 0;
    session->timeout = s->timeout;
    return HR_OK;
}

/* Store a record, or none, which begins the topic; *offset is where. */
static int append(hr_session *session, const char *topic, const char *policy, const void *data,
                  size_t size, int64_t *offset)
{
    hr_buffer head = {0};
    hr_options options = {"", OPTIONS_CAPACITY, 0, 0};
    hr_message message = {0};
    hr_reply reply;
    zmq_msg_t record;
    uint64_t number = ++session->number;
    snprintf(options.when_full, sizeof options.when_full, "%s", policy);
    hr_say_append(&head, number, topic, "", -1, -1, hr_now(), &options);
    if (data == NULL) {
        int code = hr_session_ask(session, &head, number, HR_APPENDED, 0.0, &message, &reply);
        *offset = code == HR_OK ? reply.numbers[0] : -1;
        hr_message_free(&message);
        return code;
    }
    if (zmq_msg_init_size(&record, size) != 0) {
        hr_buffer_free(&head);
        return hr_fail_memory();
    }
    memcpy(zmq_msg_data(&record), data, size);
    int code = hr_session_send_parts(session, &head, &record, 1);
    if (code == HR_OK)
        code = hr_session_await(session, number, HR_APPENDED, session->timeout, &message, &reply);
    *offset = code == HR_OK ? reply.numbers[0] : -1;
    hr_message_free(&message);
    return code;
}

void hr_model_close(hr_model **model)
{
    if (model == NULL || *model == NULL)
        return;
    hr_model *m = *model;
    forget_inputs(m);
    forget_reply(m);
    if (m->ask.socket != NULL)
        hr_session_close(&m->ask);
    if (!m->together && m->hear.socket != NULL)
        hr_session_close(&m->hear);
    free(m->ask.address);
    free(m->hear.address);
    free(m);
    *model = NULL;
}

static int open_model(hr_model *m)
{
    const hr_stream *s = m->stream;
    char *found = hr_find_stager(s->stager, s->run_directory, s->timeout);
    int code = found == NULL ? hr_last_code() : HR_OK;
    if (code == HR_OK)
        code = connect_for(m, &m->ask, found, m->requests);
    if (code == HR_OK)
        code = connect_for(m, &m->hear, found, m->replies);
    free(found);
    if (code == HR_OK)
        code = hr_session_open(&m->ask);
    m->together = code == HR_OK && strcmp(m->ask.address, m->hear.address) == 0;
    if (code == HR_OK && !m->together)
        code = hr_session_open(&m->hear);
    /* What earlier lives were told is passed over. */
    if (code == HR_OK)
        code = append(hearing(m), m->replies, "drop_oldest", NULL, 0, &m->position);
    return code;
}

int hr_model_open(hr_stream *s, const char *service, hr_model **model)
{
    if (model == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_model_open needs a place for the model.");
    *model = NULL;
    if (s == NULL || !s->is_open || s->is_closed)
        return hr_fail(HR_ERROR_STATE, "hr_model_open wants a stream that is open.");
    int code = hr_check_name(service, "service");
    if (code < 0)
        return code;
    hr_model *m = calloc(1, sizeof *m);
    if (m == NULL)
        return hr_fail_memory();
    m->stream = s;
    m->ask.wake[0] = m->ask.wake[1] = m->hear.wake[0] = m->hear.wake[1] = -1;
    snprintf(m->service, sizeof m->service, "%s", service);
    if (s->schema.n_ranks > 1)
        snprintf(m->asker, sizeof m->asker, "%s.r%lld", s->simulation, (long long)s->rank);
    else
        snprintf(m->asker, sizeof m->asker, "%s", s->simulation);
    snprintf(m->requests, sizeof m->requests, "requests/%s", m->service);
    snprintf(m->replies, sizeof m->replies, "replies/%s", m->asker);
    if (!hr_random_hex(m->life, 16))
        code = hr_fail(HR_ERROR_MEMORY, "The system has no random numbers for a name.");
    if (code == HR_OK)
        code = open_model(m);
    if (code < 0)
        hr_model_close(&m);
    *model = m;
    return code;
}

/* ----------------------------------------------------------------------- asking */

int hr_model_input(hr_model *m, const char *name, const double *values, int64_t rows,
                   int64_t width)
{
    if (m == NULL || values == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_model_input needs a model and values.");
    int code = hr_check_name(name, "input");
    if (code < 0)
        return code;
    if (rows < 1 || width < 1 || (uint64_t)rows > HR_MAX_FRAME / 8 / (uint64_t)width)
        return hr_fail(HR_ERROR_ARGUMENT, "The input '%.128s' has %lld rows of %lld numbers; both "
                                          "must be at least 1, and all fit in a record.",
                       name, (long long)rows, (long long)width);
    if (m->n_inputs == MAX_COLUMNS)
        return hr_fail(HR_ERROR_ARGUMENT, "A model takes at most %d inputs.", MAX_COLUMNS);
    if (m->n_inputs > 0 && m->rows != rows)
        return hr_fail(HR_ERROR_SCHEMA, "The input '%.128s' has %lld rows; those before have %lld.",
                       name, (long long)rows, (long long)m->rows);
    hr_input *in = &m->inputs[m->n_inputs];
    char key[HR_MAX_NAME + 3];
    size_t bytes = (size_t)(rows * width) * sizeof *values;
    uint8_t *copy = malloc(bytes);
    snprintf(key, sizeof key, "x/%s", name);
    memset(in, 0, sizeof *in);
    in->array.name = hr_copy(key);
    if (copy == NULL || in->array.name == NULL) {
        free(copy);
        free(in->array.name);
        return hr_fail_memory();
    }
    memcpy(copy, values, bytes);
    snprintf(in->array.dtype, sizeof in->array.dtype, "<f8");
    in->array.itemsize = 8;
    in->array.count = (size_t)(rows * width);
    in->array.data = copy;
    in->shape[0] = rows;
    in->shape[1] = width;
    in->ndim = width > 1 ? 2 : 1;
    m->rows = rows;
    m->n_inputs++;
    return HR_OK;
}

static uint8_t *request(const hr_model *m, const char *id, double limit, size_t *size)
{
    hr_array arrays[MAX_COLUMNS];
    const int64_t *shapes[MAX_COLUMNS];
    int ndims[MAX_COLUMNS];
    hr_buffer plain = {0};
    for (size_t i = 0; i < m->n_inputs; i++) {
        arrays[i] = m->inputs[i].array;
        shapes[i] = m->inputs[i].shape;
        ndims[i] = m->inputs[i].ndim;
    }
    hr_write_map(&plain, 5);
    hr_write_text(&plain, "id");
    hr_write_text(&plain, id);
    hr_write_text(&plain, "asker");
    hr_write_text(&plain, m->asker);
    hr_write_text(&plain, "rows");
    hr_write_int(&plain, m->rows);
    hr_write_text(&plain, "stamp");
    hr_write_double(&plain, hr_now());
    hr_write_text(&plain, "limit");
    hr_write_double(&plain, limit);
    uint8_t *out = hr_encode_state(arrays, shapes, ndims, m->n_inputs, &plain, size);
    hr_buffer_free(&plain);
    return out;
}

/* The text of an entry of the reply's plain data; false if there is none. */
static hr_reader plain_entry(const hr_state *state, const char *name)
{
    hr_reader r = hr_reader_of(state->plain.data, state->plain.size);
    size_t n = state->plain.size ? hr_read_map(&r) : 0;
    for (size_t i = 0; i < n && !r.failed; i++) {
        hr_span key = hr_read_text(&r);
        if (!r.failed && hr_span_is(key, name))
            return r;
        hr_read_any(&r);
    }
    return hr_reader_of(NULL, 0);
}

static const hr_array *array_of(const hr_state *state, const char *prefix, const char *name)
{
    size_t n = strlen(prefix);
    for (size_t i = 0; i < state->n; i++)
        if (strncmp(state->arrays[i].name, prefix, n) == 0 &&
            strcmp(state->arrays[i].name + n, name) == 0)
            return &state->arrays[i];
    return NULL;
}

/* Look through what came for the reply to a request; the message is kept if it is there. */
static bool find_reply(hr_model *m, const char *id)
{
    for (size_t i = 1; i < m->message.n; i++) {
        if (hr_decode_state(&m->reply, hr_message_part(&m->message, i)) == HR_OK) {
            hr_reader text = plain_entry(&m->reply, "id");
            if (text.at < text.end && hr_span_is(hr_read_text(&text), id))
                return true;
            hr_state_free(&m->reply);
        }
    }
    hr_message_free(&m->message);
    return false;
}

static int fetch(hr_model *m, double wait)
{
    hr_session *session = hearing(m);
    hr_buffer head = {0};
    hr_reply reply;
    hr_slice slice;
    char group[HR_MAX_NAME + 48];
    hr_topic_offset from = {m->replies, m->position};
    hr_fetch want = {&from, &from, 1, 1, "", group, 4096, 16 << 20, wait, 0, false, NULL, 0, false};
    uint64_t number = ++session->number;
    snprintf(group, sizeof group, "asker.%s", m->asker);
    hr_say_fetch(&head, number, &want);
    int code = hr_session_ask(session, &head, number, HR_FETCHED, wait, &m->message, &reply);
    if (code < 0)
        return code;
    hr_reader r = hr_reader_of(reply.list.data, reply.list.size);
    if (hr_read_array(&r) > 0 && hr_read_slice(&r, &slice) && slice.position > m->position)
        m->position = slice.position;
    return HR_OK;
}

static int take_reply(hr_model *m)
{
    hr_reader why = plain_entry(&m->reply, "reason");
    hr_span text = why.at < why.end ? hr_read_text(&why) : (hr_span){NULL, 0};
    snprintf(m->reason, sizeof m->reason, "%.*s",
             (int)(text.size < HR_TEXT ? text.size : HR_TEXT - 1),
             text.size ? (const char *)text.data : "");
    m->valid = array_of(&m->reply, "", "valid");
    if (m->valid == NULL || m->valid->itemsize != 1 || m->valid->count != (size_t)m->rows) {
        char kept[HR_TEXT];
        snprintf(kept, sizeof kept, "%s", m->reason);
        return nothing(m, false, kept[0] ? kept : "The service gave no answer, and no reason.");
    }
    return HR_OK;
}

int hr_infer(hr_model *m, double timeout)
{
    char id[64], why[HR_TEXT];
    size_t size = 0;
    int64_t offset;
    if (m == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_infer needs a model.");
    if (m->n_inputs == 0)
        return hr_fail(HR_ERROR_STATE, "The model '%.128s' was given no input since the last "
                                       "request.", m->service);
    forget_reply(m);
    double deadline = hr_monotonic() + timeout;
    if (hr_monotonic() < m->away_until) {
        forget_inputs(m);
        snprintf(why, sizeof why, "The service '%.128s' did not answer lately; it is asked again "
                                  "later.", m->service);
        return nothing(m, false, why);
    }
    snprintf(id, sizeof id, "%.12s-%llu", m->life, (unsigned long long)++m->count);
    uint8_t *record = request(m, id, timeout, &size);
    int64_t rows = m->rows;
    forget_inputs(m);
    if (record == NULL)
        return hr_fail_memory();
    int code = append(&m->ask, m->requests, "block", record, size, &offset);
    free(record);
    m->rows = rows;
    if (code == HR_ERROR_FULL) {
        snprintf(why, sizeof why, "The service '%.128s' is behind: its requests are full.",
                 m->service);
        return nothing(m, true, why);
    }
    while (code == HR_OK) {
        double left = deadline - hr_monotonic();
        if (left <= 0.0)
            break;
        code = fetch(m, left);
        if (code == HR_OK && find_reply(m, id))
            return take_reply(m);
    }
    if (code < 0)
        return code;
    snprintf(why, sizeof why, "The service '%.128s' did not answer within %g s; is it running?",
             m->service, timeout);
    return nothing(m, true, why);
}

/* -------------------------------------------------------------------- the answer */

int64_t hr_model_valid(const hr_model *m, unsigned char *valid, int64_t rows)
{
    int64_t good = 0;
    if (m == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_model_valid needs a model.");
    if (m->valid == NULL) {
        if (valid != NULL && rows > 0)
            memset(valid, 0, (size_t)rows);
        return 0;
    }
    if (valid != NULL && rows != (int64_t)m->valid->count)
        return hr_fail(HR_ERROR_ARGUMENT, "The answer has %zu rows; there is a place for %lld.",
                       m->valid->count, (long long)rows);
    for (size_t i = 0; i < m->valid->count; i++) {
        good += m->valid->data[i] != 0;
        if (valid != NULL)
            valid[i] = m->valid->data[i] != 0;
    }
    return good;
}

int hr_model_output(const hr_model *m, const char *name, double *values, size_t count)
{
    if (m == NULL || name == NULL || values == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_model_output needs a model, a name and a place.");
    const hr_array *found = array_of(&m->reply, "y/", name);
    if (found == NULL)
        return hr_fail(HR_ERROR_STATE, "The answer of '%.128s' has no '%.128s'.", m->service, name);
    if (found->count != count)
        return hr_fail(HR_ERROR_SCHEMA, "The output '%.128s' of '%.128s' has %zu numbers; there is "
                                        "a place for %zu.", name, m->service, found->count, count);
    return hr_array_numbers(found, values);
}

int64_t hr_model_version(const hr_model *m)
{
    if (m == NULL || m->valid == NULL)
        return 0;
    hr_reader r = plain_entry(&m->reply, "version");
    return r.at < r.end ? hr_read_int(&r) : 0;
}

const char *hr_model_reason(const hr_model *m)
{
    return m == NULL ? "" : m->reason;
}
