/* Putting frames: checks, room, one copy. */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

int hr_value(hr_stream *s, const char *name, const void *data, size_t bytes)
{
    if (s == NULL || name == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_value needs a stream and a name.");
    hr_variable *v = hr_schema_find(&s->schema, name);
    if (v == NULL)
        return hr_fail(HR_ERROR_SCHEMA, "The stream of '%s' has no variable '%.128s'; declare it "
                                        "before the stream is opened.", s->simulation,
                       hr_is_utf8(name) ? name : "(not UTF-8)");
    if (data == NULL && bytes > 0)
        return hr_fail(HR_ERROR_ARGUMENT, "The data of '%s' are NULL.", v->name);
    v->data = data != NULL ? data : "";
    v->bytes = bytes;
    return HR_OK;
}

static void forget_values(hr_stream *s)
{
    for (size_t i = 0; i < s->schema.n_variables; i++)
        s->schema.variables[i].data = NULL;
}

static int check_values(const hr_stream *s, int64_t lead)
{
    for (size_t i = 0; i < s->schema.n_variables; i++) {
        const hr_variable *v = &s->schema.variables[i];
        uint64_t wanted = hr_variable_bytes(v, lead);
        if (v->data == NULL)
            return hr_fail(HR_ERROR_SCHEMA, "The frame of '%s' lacks the variable '%s', of %llu "
                                            "bytes; name its data with hr_value before each put.",
                           s->simulation, v->name, (unsigned long long)wanted);
        if (v->bytes != wanted)
            return hr_fail(HR_ERROR_SCHEMA, "Variable '%s' of '%s' has %zu bytes; the stream "
                                            "declares %llu%s.", v->name, s->simulation, v->bytes,
                           (unsigned long long)wanted,
                           lead >= 0 && v->decomposed ? " for this many rows" : "");
    }
    return HR_OK;
}

/* Why the stream cannot be used now, if it cannot; wants the lock. */
static int check_stream(hr_stream *s, int64_t step)
{
    if (!s->is_open || s->is_closed)
        return hr_fail(HR_ERROR_STATE, s->is_closed ? "The stream of '%s' is closed."
                                                    : "Open the stream of '%s' before putting "
                                                      "frames.", s->simulation);
    if (s->putting)
        return hr_fail(HR_ERROR_STATE, "Two threads put frames of '%s' at the same time; let one do "
                                       "it.", s->simulation);
    if (s->failure)
        return hr_fail(s->failure, "%s", s->failure_text);
    if (step <= s->last_step)
        return hr_fail(HR_ERROR_ORDER,
                       "Step %lld of '%s' %s: the frame before it has step %lld, and steps must "
                       "increase.", (long long)step, s->simulation,
                       step == s->last_step ? "came twice" : "is out of order",
                       (long long)s->last_step);
    return HR_OK;
}

static void wait_for_change(hr_stream *s, double seconds)
{
    struct timespec until;
    double at = hr_monotonic() + seconds;
    until.tv_sec = (time_t)at;
    until.tv_nsec = (long)((at - (double)until.tv_sec) * 1e9);
    pthread_cond_timedwait(&s->changed, &s->lock, &until);
}

static int why_no_room(hr_stream *s, double waited)
{
    if (s->problem)
        return hr_fail(s->problem, "%s", s->problem_text);
    return hr_fail(HR_ERROR_FULL,
                   "Waited %.1f s for room in the stream of '%s': it holds its capacity of %lld "
                   "bytes, and its consumer groups have not committed what is in it. Start or "
                   "speed up a consumer, raise the capacity, or choose another policy than "
                   "'block'.", waited, s->simulation, (long long)s->options.capacity);
}

/*
 * Whether a stop has come that rank 0 applies, or has applied: other ranks take no commands, and
 * only look at them, from the first wait for room on. Wants the lock.
 */
static bool sees_stop(hr_stream *s, int64_t step)
{
    bool accepted = s->n_capabilities == 0;
    if (!s->sees_stops)
        s->wants_stops = true;
    for (size_t i = 0; i < s->n_capabilities; i++)
        accepted = accepted || strcmp(s->capabilities[i].kind, "stop") == 0;
    for (const hr_command *m = s->stops; m != NULL && accepted; m = m->next)
        if ((m->expires == 0.0 || hr_now() <= m->expires) && (!m->has_step || m->at_step == step))
            return true;
    return false;
}

/*
 * Whether a stop was applied. Commands are taken in while there is no room: a stop or a pause is
 * answered at this step, what else there is waits for hr_poll. Wants the lock.
 */
static bool is_stopped(hr_stream *s, int64_t step, double time)
{
    if (s->rank != 0)
        return sees_stop(s, step);
    if (s->arrived != NULL) {
        hr_take_arrived(s);
        hr_channel_judge(&s->channel, step, time, hr_now());
        hr_send_answers(s);
    }
    return s->channel.stopped;
}

/* Begin a chunk, waiting for room if the policy says so; wants the lock. */
static int next_chunk(hr_stream *s, int64_t step, double time, uint64_t rows, int64_t lead, bool ids,
                      int64_t start)
{
    double began = 0.0;
    hr_chunk *chunk;
    int code = HR_OK;
    while ((chunk = hr_room_take(s, rows, lead, ids)) == NULL) {
        double now = hr_monotonic();
        bool newest = strcmp(s->options.when_full, "drop_newest") == 0;
        bool full = s->lease_asked != 0.0 && now - s->lease_asked > 0.02;
        if (began == 0.0)
            began = now;
        if (s->failure)
            code = hr_fail(s->failure, "%s", s->failure_text);
        else if ((newest && full) || is_stopped(s, step, time)) {
            s->statistics.dropped++;
            code = HR_DROPPED;
        } else if (now - began >= s->patience)
            code = why_no_room(s, now - began);
        if (code != HR_OK)
            break;
        hr_io_wake(s);
        double left = s->patience - (now - began), most = newest ? 0.02 : 0.2;
        wait_for_change(s, left < most ? left : most);
    }
    if (began != 0.0)
        s->statistics.waited += hr_monotonic() - began;
    if (chunk == NULL)
        return code;
    chunk->first = s->sequence;
    chunk->start = start;
    s->open = chunk;
    chunk->references++; /* of the queue */
    chunk->in_queue = true;
    if (s->chunks_last != NULL)
        s->chunks_last->next = chunk;
    else
        s->chunks = chunk;
    s->chunks_last = chunk;
    if (s->wants_lease)
        hr_io_wake(s);
    return HR_OK;
}

static void copy_values(hr_stream *s, hr_chunk *chunk, uint32_t row, int64_t step, double time,
                        const int64_t *ids, bool scatter)
{
    const uint64_t(*columns)[2] = (const uint64_t(*)[2])chunk->layout->columns;
    uint8_t *base = chunk->base;
    int32_t epoch = s->channel.epoch;
    size_t at = 3;
    memcpy(base + columns[0][1] + 8 * (uint64_t)row, &step, 8);
    memcpy(base + columns[1][1] + 8 * (uint64_t)row, &time, 8);
    memcpy(base + columns[2][1] + 4 * (uint64_t)row, &epoch, 4);
    if (chunk->ids) {
        if (columns[at][0] > 0)
            memcpy(base + columns[at][1] + row * columns[at][0], ids, columns[at][0]);
        at++;
    }
    for (size_t i = 0; i < s->schema.n_variables; i++, at++) {
        const hr_variable *v = &s->schema.variables[i];
        uint64_t size = columns[at][0];
        uint8_t *to = base + columns[at][1] + row * size;
        if (scatter && v->decomposed && v->shape[0] > 0) {
            uint64_t one = size / (uint64_t)v->shape[0];
            for (int64_t k = 0; k < v->shape[0]; k++)
                memcpy(to + (uint64_t)ids[k] * one, (const uint8_t *)v->data + (uint64_t)k * one,
                       one);
        } else if (size > 0)
            memcpy(to, v->data, size);
    }
}

static uint64_t frame_bytes(const hr_stream *s, int64_t lead)
{
    uint64_t out = 0;
    for (size_t i = 0; i < s->schema.n_variables; i++)
        out += hr_variable_bytes(&s->schema.variables[i], lead);
    return out;
}

static int put(hr_stream *s, int64_t step, double time, int64_t lead, int64_t start,
               const int64_t *ids, bool scatter)
{
    pthread_mutex_lock(&s->lock);
    int code = check_stream(s, step);
    if (code == HR_OK)
        code = check_values(s, lead);
    if (code == HR_OK) {
        s->putting = true; /* others may not, while we wait for room or copy */
        if (s->open == NULL || lead >= 0)
            code = next_chunk(s, step, time, lead >= 0 ? 1 : 0, lead, ids != NULL && !scatter,
                              start);
        if (code == HR_OK) {
            hr_chunk *chunk = s->open;
            uint32_t row = chunk->filled;
            pthread_mutex_unlock(&s->lock);
            copy_values(s, chunk, row, step, time, ids, scatter);
            pthread_mutex_lock(&s->lock);
            if (row == chunk->sent)
                chunk->stamp = hr_now();
            chunk->filled = row + 1;
            s->sequence++;
            s->last_step = s->last_put = step;
            s->last_time = time;
            s->statistics.frames++;
            s->statistics.bytes += (int64_t)frame_bytes(s, lead);
            if (chunk->filled == chunk->layout->capacity) {
                chunk->closed = true;
                s->open = NULL;
                hr_chunk_release(s, chunk);
            }
            if (s->idle)
                hr_io_wake(s);
        }
        s->putting = false;
        forget_values(s);
    }
    pthread_mutex_unlock(&s->lock);
    return code;
}

int hr_put(hr_stream *s, int64_t step, double time)
{
    if (s == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_put needs a stream.");
    if (s->schema.n_ranks > 1)
        return hr_fail(HR_ERROR_STATE, "The stream of '%s' is written by %lld ranks; each puts its "
                                       "block with hr_put_block.", s->simulation,
                       (long long)s->schema.n_ranks);
    return put(s, step, time, -1, 0, NULL, false);
}

/* The global number of rows; -1 if nothing is decomposed. */
static int64_t global_rows(const hr_stream *s)
{
    for (size_t i = 0; i < s->schema.n_variables; i++)
        if (s->schema.variables[i].decomposed)
            return s->schema.variables[i].shape[0];
    return -1;
}

static int check_block(const hr_stream *s, int64_t start, int64_t rows, const int64_t *ids)
{
    int64_t all = global_rows(s);
    if (all < 0)
        all = 0;
    if (rows < 0 || rows > all || start < 0 || (ids == NULL && start > all - rows))
        return hr_fail(HR_ERROR_SCHEMA, "A block of '%s' with %lld rows from row %lld on does not "
                                        "lie within the %lld rows of the frame.", s->simulation,
                       (long long)rows, (long long)start, (long long)all);
    for (int64_t i = 0; ids != NULL && i < rows; i++)
        if (ids[i] < 0 || ids[i] >= all)
            return hr_fail(HR_ERROR_SCHEMA, "Row %lld of a block of '%s' has the id %lld; ids are "
                                            "from 0 to %lld.", (long long)i, s->simulation,
                           (long long)ids[i], (long long)all - 1);
    return HR_OK;
}

int hr_put_block(hr_stream *s, int64_t step, double time, int64_t start, int64_t rows,
                 const int64_t *ids)
{
    if (s == NULL)
        return hr_fail(HR_ERROR_ARGUMENT, "hr_put_block needs a stream.");
    int code = check_block(s, start, rows, ids);
    if (code < 0)
        return code;
    if (s->schema.n_ranks > 1)
        return put(s, step, time, rows, start, ids, false);
    /* The only rank has the whole frame, which is put as such. */
    if (global_rows(s) > rows)
        return hr_fail(HR_ERROR_SCHEMA, "The only rank of '%s' puts a block of %lld rows; the frame "
                                        "has %lld.", s->simulation, (long long)rows,
                       (long long)global_rows(s));
    return put(s, step, time, -1, 0, ids, ids != NULL);
}

int hr_due(hr_stream *s, int64_t step)
{
    if (s == NULL || !s->is_open)
        return 0;
    pthread_mutex_lock(&s->lock);
    int out = s->last_put < 0 ? step > s->last_step : step - s->last_put >= s->channel.every;
    pthread_mutex_unlock(&s->lock);
    return out;
}
