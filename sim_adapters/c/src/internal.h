/* What the files of the library share; nothing here is for users. */
#ifndef HEADRACE_INTERNAL_H
#define HEADRACE_INTERNAL_H

#ifndef _DEFAULT_SOURCE
#define _DEFAULT_SOURCE 1 /* MAP_POPULATE and what POSIX has beside C99 */
#endif

#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../headrace.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "The wire format is little-endian, and this library writes it by copying."
#endif

#if defined(__GNUC__)
#define HR_PRINTF(a, b) __attribute__((format(printf, a, b)))
#else
#define HR_PRINTF(a, b)
#endif

#define HR_ALIGNMENT 64
#define HR_MAX_NAME 128
#define HR_MAX_FRAME ((uint64_t)1 << 32)
#define HR_MAX_NDIM 16
#define HR_TEXT 1024 /* bytes of a sentence */

/* ----------------------------------------------------------------------------- errors.c */

int hr_fail(int code, const char *format, ...) HR_PRINTF(2, 3);
int hr_fail_memory(void);
int hr_last_code(void);
int hr_code_of(const char *name, size_t length); /* of an error that the stager names */

/* ----------------------------------------------------------------------------- tools.c */

uint64_t hr_hash(const void *data, size_t size);
double hr_now(void);       /* Unix time in seconds */
double hr_monotonic(void); /* seconds since whenever */
void hr_sleep(double seconds);
uint64_t hr_aligned(uint64_t size);
char *hr_copy(const char *text);
char *hr_copy_span(const char *text, size_t size);
bool hr_is_utf8(const char *text);
int hr_check_name(const char *name, const char *what);
bool hr_random_hex(char *text, size_t bytes); /* writes 2 * bytes digits and a zero */
char *hr_read_file(const char *path, size_t limit); /* NULL if it cannot be read */

/* --------------------------------------------------------------------------- msgpack.c */

typedef struct hr_buffer {
    uint8_t *data;
    size_t size, room;
    bool failed; /* there was no memory: what is in it is of no use */
} hr_buffer;

typedef struct hr_reader {
    const uint8_t *at, *end;
    bool failed;
} hr_reader;

typedef struct hr_span {
    const uint8_t *data;
    size_t size;
} hr_span;

void hr_buffer_free(hr_buffer *b);
void hr_write_bytes(hr_buffer *b, const void *data, size_t size);
void hr_write_array(hr_buffer *b, size_t n);
void hr_write_map(hr_buffer *b, size_t n);
void hr_write_text(hr_buffer *b, const char *text);
void hr_write_int(hr_buffer *b, int64_t value);
void hr_write_uint(hr_buffer *b, uint64_t value);
void hr_write_double(hr_buffer *b, double value);
void hr_write_bool(hr_buffer *b, bool value);
void hr_write_nil(hr_buffer *b);

hr_reader hr_reader_of(const void *data, size_t size);
size_t hr_read_array(hr_reader *r);
size_t hr_read_map(hr_reader *r);
hr_span hr_read_text(hr_reader *r); /* text or bytes */
int64_t hr_read_int(hr_reader *r);
uint64_t hr_read_uint(hr_reader *r);
double hr_read_double(hr_reader *r); /* takes whole numbers, too */
bool hr_read_bool(hr_reader *r);
bool hr_read_nil(hr_reader *r); /* takes a nil if one is there */
hr_span hr_read_any(hr_reader *r); /* passes over one value, and returns its bytes */
bool hr_is_number(const hr_reader *r);
bool hr_is_text(const hr_reader *r);
bool hr_is_array(const hr_reader *r);
bool hr_is_map(const hr_reader *r);
bool hr_span_is(hr_span span, const char *text);
char *hr_span_copy(hr_span span);

/* ---------------------------------------------------------------------------- schema.c */

typedef struct hr_variable {
    char name[HR_MAX_NAME + 1];
    char dtype[16];
    uint32_t itemsize;
    int ndim;
    int64_t shape[HR_MAX_NDIM];
    char *unit, *description;
    bool decomposed;
    const void *data; /* for the next put */
    size_t bytes;
} hr_variable;

typedef struct hr_pair {
    char *name, *value;
} hr_pair;

typedef struct hr_capability_entry {
    char *kind, *parameter, *unit, *description;
    double minimum, maximum;
} hr_capability_entry;

typedef struct hr_schema {
    hr_variable *variables;
    size_t n_variables;
    char *time_unit, *selection;
    int64_t n_ranks;
    hr_pair *attributes;
    size_t n_attributes;
    size_t n_particles, n_bonds;
    char **names, **elements, **residues;
    int64_t *residue_ids, *bonds;
    double *masses;
} hr_schema;

int hr_check_text(const char *text, const char *what); /* never NULL, and UTF-8 */
int hr_check_new(const hr_stream *s, const char *what); /* before it is opened */
int hr_replace(char **field, const char *text);
int hr_dtype_parse(const char *dtype, char out[16], uint32_t *itemsize);
hr_variable *hr_schema_find(hr_schema *schema, const char *name);
uint64_t hr_variable_bytes(const hr_variable *v, int64_t lead); /* of one row; lead < 0: whole */
uint64_t hr_schema_bytes(const hr_schema *schema);
bool hr_schema_decoded(hr_schema *schema, hr_span data);
void hr_schema_free(hr_schema *schema);
void hr_write_schema(hr_buffer *b, const hr_schema *schema);
void hr_capabilities_free(hr_capability_entry *entries, size_t n);

/* ---------------------------------------------------------------------------- layout.c */

/* Where the columns of a chunk lie: step, time, epoch, perhaps ids, then the variables. */
typedef struct hr_layout {
    uint32_t capacity;
    size_t n_columns;
    uint64_t nbytes;
    uint64_t columns[][2]; /* bytes of one row, position of the column */
} hr_layout;

hr_layout *hr_layout_new(const hr_schema *schema, uint64_t capacity, int64_t lead, bool ids);
uint64_t hr_layout_bytes(const hr_schema *schema, uint64_t capacity, int64_t lead, bool ids);
uint64_t hr_rows_for(const hr_schema *schema, uint64_t limit);
uint64_t hr_layout_checksum(const hr_layout *layout, const uint8_t *base, uint64_t row,
                            uint64_t count);
uint64_t hr_layout_packed(const hr_layout *layout, uint64_t count); /* bytes of hr_layout_pack */
void hr_layout_pack(const hr_layout *layout, const uint8_t *base, uint64_t row, uint64_t count,
                    uint8_t *out);

/* -------------------------------------------------------------------------- messages.c */

typedef struct hr_options {
    char when_full[16];
    int64_t capacity, segment, keep;
} hr_options;

typedef struct hr_part {
    int64_t segment;
    uint64_t position, capacity, row, count, checksum;
    int64_t lead;
    bool ids;
    int64_t start, rank;
} hr_part;

typedef struct hr_topic_offset {
    const char *topic;
    int64_t offset;
} hr_topic_offset;

typedef struct hr_fetch {
    const hr_topic_offset *positions, *commits;
    size_t n_positions, n_commits;
    const char *follow, *group;
    int64_t max_frames, max_bytes;
    double wait;
    int64_t released;
    bool mapped;
    const char *const *done;
    size_t n_done;
    bool fresh;
} hr_fetch;

typedef struct hr_commit {
    const char *simulation;
    int64_t incarnation;
    uint64_t sequence;
    size_t n;
    const hr_part *parts;
    const int64_t *steps, *epochs;
    const double *times;
    double stamp;
    bool is_inline;
    int64_t rank, dropped;
} hr_commit;

void hr_write_options(hr_buffer *b, const hr_options *options);
void hr_write_capability(hr_buffer *b, const hr_capability_entry *c);
void hr_say_hello(hr_buffer *b, uint64_t number, const char *name, const char *release);
void hr_say_open(hr_buffer *b, uint64_t number, const char *simulation, const hr_schema *schema,
                 const hr_options *options, const char *token, int64_t incarnation, int64_t rank,
                 const hr_capability_entry *capabilities, size_t n, uint64_t sequence);
void hr_say_lease(hr_buffer *b, uint64_t number, const char *simulation, int64_t incarnation,
                  uint64_t size, int64_t rank);
void hr_say_commit(hr_buffer *b, uint64_t number, const hr_commit *commit);
void hr_say_fetch(hr_buffer *b, uint64_t number, const hr_fetch *fetch);
void hr_say_append(hr_buffer *b, uint64_t number, const char *topic, const char *writer,
                   int64_t first, int64_t stop, double stamp, const hr_options *options);
void hr_say_offsets(hr_buffer *b, uint64_t number, const char *group,
                    const hr_topic_offset *offsets, size_t n, int64_t released);
void hr_say_query(hr_buffer *b, uint64_t number, const char *prefix, bool schemas);
void hr_say_ping(hr_buffer *b, uint64_t number, int64_t released);
void hr_say_bye(hr_buffer *b, uint64_t number, const char *simulation, int64_t incarnation,
                int64_t rank, bool finished, int64_t dropped, const char *reason);

/* --------------------------------------------------------------------------- replies.c */

typedef enum hr_reply_kind {
    HR_REPLY_UNKNOWN,
    HR_WELCOME,
    HR_OPENED,
    HR_LEASED,
    HR_ACK,
    HR_APPENDED,
    HR_FETCHED,
    HR_TOPICS,
    HR_DONE,
    HR_REFUSED
} hr_reply_kind;

typedef struct hr_reply {
    hr_reply_kind kind;
    uint64_t request;
    hr_span texts[4];  /* Welcome: instance, release, probe's path and nonce; Leased: path;
                          Refused: code and message */
    int64_t numbers[6]; /* the other fields, in order */
    double time;       /* Opened: of the newest frame */
    hr_span list;      /* Fetched: slices; Topics: states */
} hr_reply;

typedef struct hr_slice {
    hr_span topic;
    int64_t position, low, end;
    bool finished;
    hr_span entries, records, schema; /* schema: no bytes where none was sent */
} hr_slice;

typedef struct hr_topic_state {
    hr_span name, groups;
    int64_t low, end;
} hr_topic_state;

int hr_decode_reply(hr_reply *reply, const void *data, size_t size);
bool hr_read_slice(hr_reader *r, hr_slice *slice);
bool hr_read_part(hr_reader *r, hr_part *part);
bool hr_read_topic(hr_reader *r, hr_topic_state *state);
int64_t hr_group_offset(hr_span groups, const char *group); /* -1 if it has none */

/* --------------------------------------------------------------------------- address.c */

char *hr_find_stager(const char *address, const char *run_directory, double timeout);
char *hr_owner(const char *addresses, const char *simulation);
void hr_node(char boot[256], char node[512]);

typedef struct hr_keys {
    char stager[41], own_public[41], own_secret[41];
    bool given;
} hr_keys;

int hr_load_keys(hr_keys *keys, const char *folder);

/* -------------------------------------------------------------------------- segments.c */

typedef struct hr_mapping {
    char *path;
    uint8_t *data;
    size_t size;
    int references;
} hr_mapping;

typedef struct hr_maps {
    hr_mapping *entries[64]; /* most recently used first */
    size_t n;
} hr_maps;

hr_mapping *hr_map(hr_maps *maps, const char *path, size_t size); /* NULL: cannot be mapped */
void hr_unmap(hr_mapping *mapping); /* gives one reference back */
void hr_maps_clear(hr_maps *maps);
bool hr_shares_node(const char *path, const char *nonce);

/* --------------------------------------------------------------------------- session.c */

typedef struct hr_message {
    void *parts; /* zmq_msg_t[] */
    size_t n, room;
} hr_message;

/* What became of the handshake: see bridge/transports/handshake.py. */
typedef enum { HR_SHAKE_OPEN, HR_SHAKE_REFUSED, HR_SHAKE_MISMATCH, HR_SHAKE_BROKEN } hr_shake;

typedef struct hr_session {
    void *context, *socket, *monitor; /* of the handshakes; NULL where libzmq tells nothing */
    hr_shake shake;
    int broken_off; /* handshakes one after the other that the peer broke off */
    int wake[2];
    char *address, *name;
    hr_keys keys;
    char instance[80];
    int wanted; /* mapped: -1 finds out, 0 no, 1 yes */
    bool mapped;
    uint64_t number;
    double timeout;
    bool (*stop)(void *); /* asked while waiting */
    void *stop_argument;
} hr_session;

int hr_session_open(hr_session *session);
void hr_session_close(hr_session *session);
int hr_session_hello(hr_session *session, bool first);
int hr_session_ask(hr_session *session, hr_buffer *request, uint64_t number,
                   hr_reply_kind kind, double wait, hr_message *message, hr_reply *reply);
/* Wait for the answer to a request that was sent; it is not sent again. */
int hr_session_await(hr_session *session, uint64_t number, hr_reply_kind kind, double timeout,
                     hr_message *message, hr_reply *reply);
int hr_session_send(hr_session *session, hr_buffer *head); /* frees the buffer */
int hr_session_send_parts(hr_session *session, hr_buffer *head, void *parts, size_t n);
/* 1: a message came; 0: none until the time limit, or woken; < 0: error */
int hr_session_receive(hr_session *session, hr_message *message, double timeout);
void hr_session_wake(hr_session *session);

/* -------------------------------------------------------------------------- handshake.c */

void hr_handshake_watch(hr_session *session);  /* before the socket connects */
void hr_handshake_look(hr_session *session);   /* reads what happened; never waits */
int hr_handshake_fail(const hr_session *session); /* HR_OK if nothing speaks against it */
void hr_handshake_close(hr_session *session);
hr_span hr_message_part(const hr_message *message, size_t i);
void hr_message_free(hr_message *message);

/* ----------------------------------------------------------------------------- state.c */

typedef struct hr_array {
    char *name;
    char dtype[16];
    uint32_t itemsize;
    size_t count;
    const uint8_t *data;
} hr_array;

typedef struct hr_state {
    hr_array *arrays;
    size_t n;
    hr_span plain; /* map of plain data; no bytes if there is none */
    uint8_t *own;  /* memory of the arrays, where the state owns it */
} hr_state;

int hr_decode_state(hr_state *state, hr_span data);
void hr_state_free(hr_state *state);
int hr_array_doubles(const hr_array *array, double *out); /* HR_ERROR_COMMAND: not real */
int hr_array_numbers(const hr_array *array, double *out); /* whether they are finite or not */
uint8_t *hr_encode_state(const hr_array *arrays, const int64_t *const *shapes, const int *ndims,
                         size_t n, const hr_buffer *plain, size_t *size);

/* --------------------------------------------------------------------------- channel.c */

struct hr_command {
    struct hr_command *next;
    uint8_t *data; /* as it came */
    size_t size;
    char *id, *kind, *simulation, *parameter;
    double value, expires;
    bool has_value, has_step, has_frame;
    int64_t at_step;
    char *frame_simulation;
    int64_t frame_offset;
    hr_span state;
    hr_state arrays;
    bool is_read; /* the arrays are there */
};

typedef struct hr_answer {
    struct hr_answer *next;
    char *id;
    hr_buffer data; /* the encoded acknowledgement */
} hr_answer;

typedef struct hr_channel {
    const char *simulation;
    const hr_capability_entry *capabilities;
    size_t n_capabilities;
    int64_t incarnation;
    uint64_t *seen; /* hashes of ids, in a table of a power of two */
    size_t n_seen, seen_room;
    hr_command *waiting, *ready, *open; /* to be judged, to be handed out, handed out */
    hr_answer *answers;
    bool paused, stopped;
    int64_t every;
    int32_t epoch;
    int64_t delivered, repeated, applied, refused, expired;
} hr_channel;

hr_command *hr_command_decode(hr_span data);
void hr_command_free(hr_command *command);
bool hr_channel_remember(hr_channel *c, const char *id, size_t size); /* false: it was known */
bool hr_channel_deliver(hr_channel *c, hr_command *command); /* frees repeats */
void hr_channel_judge(hr_channel *c, int64_t step, double time, double now);
void hr_channel_answer(hr_channel *c, hr_command *command, const char *outcome,
                       const char *reason, int64_t step, double time, double now);
bool hr_channel_take(hr_channel *c, hr_command *command); /* out of those handed out */
void hr_channel_end(hr_channel *c, int64_t step, double time, double now);
void hr_channel_free(hr_channel *c);

/* ------------------------------------------------------------------- room.c, io.c, put.c */

typedef struct hr_chunk {
    struct hr_chunk *next;
    hr_mapping *mapping; /* NULL where the memory is our own */
    uint8_t *base;
    size_t own_size;
    int64_t segment;
    uint64_t position;
    hr_layout *layout;
    int64_t lead, start;
    bool ids, closed, is_inline, in_queue;
    uint64_t first;
    uint32_t filled, sent;
    double stamp;
    int references;
} hr_chunk;

typedef struct hr_sent {
    struct hr_sent *next;
    hr_chunk *chunk;
    uint32_t row, count;
    uint64_t checksum;
    double stamp;
} hr_sent;

typedef struct hr_lease {
    struct hr_lease *next;
    int64_t number;
    hr_mapping *mapping;
    uint64_t size, used;
    double since;
} hr_lease;

typedef struct hr_append {
    struct hr_append *next;
    uint64_t number;
    char *topic;
    int64_t first; /* place among the records that this stream appends to the topic */
    hr_buffer data;
} hr_append;

typedef struct hr_command_offset {
    struct hr_command_offset *next;
    char *id;
    int64_t offset;
} hr_command_offset;

struct hr_stream {
    char simulation[HR_MAX_NAME + 1];
    hr_schema schema;
    hr_options options;
    hr_capability_entry *capabilities;
    size_t n_capabilities;
    char *stager, *run_directory, *keys;
    int64_t rank;
    int wanted;
    double timeout, patience, linger;
    char token[HR_MAX_NAME + 40]; /* the job, a colon, 32 digits; or these alone */

    bool is_open, is_closed;
    hr_resumed resumed;
    hr_session session; /* the I/O thread's, once it runs */
    pthread_t thread;
    pthread_mutex_t lock; /* guards all that follows */
    pthread_cond_t changed;
    bool lock_made, thread_made;

    bool stopping, finished, idle;
    int failure; /* why the I/O thread has ended */
    char failure_text[HR_TEXT];
    int problem; /* what stands in the way at present */
    char problem_text[HR_TEXT];

    bool putting;
    int64_t last_step, last_put;
    double last_time;
    uint64_t sequence;
    hr_chunk *open;
    hr_chunk *chunks, *chunks_last;
    hr_sent *window, *window_last;
    size_t n_window;
    uint64_t acknowledged, inline_bytes;
    hr_lease *leases, *current;
    hr_maps maps;
    uint64_t next_size;
    bool room_mapped, wants_lease;
    uint64_t lease_number;
    double lease_asked;
    uint8_t *pool[16];
    size_t pool_sizes[16], n_pool;

    hr_append *appends, *unanswered;
    int64_t n_acks, n_events;
    hr_command *arrived;
    hr_command *stops; /* that a rank which takes no commands saw while it waited for room */
    bool wants_stops, sees_stops;
    hr_command_offset *offsets;
    int64_t to_commit, command_position;
    hr_channel channel;
    double heard, spoke;
    hr_statistics statistics;
};

/* These want the lock. */
hr_chunk *hr_room_take(hr_stream *s, uint64_t rows, int64_t lead, bool ids);
int hr_room_add(hr_stream *s, int64_t number, const char *path, uint64_t size);
void hr_room_drop(hr_stream *s, bool mapped);
void hr_chunk_release(hr_stream *s, hr_chunk *chunk);
void hr_room_free(hr_stream *s);
void hr_window_acknowledge(hr_stream *s, uint64_t sequence);
int hr_append_record(hr_stream *s, const char *topic, hr_buffer *data);
void hr_send_answers(hr_stream *s);
void hr_take_arrived(hr_stream *s);
bool hr_all_stored(const hr_stream *s);
void hr_io_wake(hr_stream *s);

/* These are for the I/O thread, or for opening before it runs. */
int hr_io_start(hr_stream *s);
int hr_io_open_stream(hr_stream *s, int64_t incarnation, uint64_t sequence, hr_reply *reply);
void hr_io_fetch_commands(hr_stream *s);
void hr_io_reconnect(hr_stream *s);
void hr_io_hear(hr_stream *s, const hr_message *message);
void hr_io_resend(hr_stream *s);
int hr_io_send(hr_stream *s, hr_buffer *head);
bool hr_io_send_all(hr_stream *s); /* true if there may be more */
void hr_io_fail(hr_stream *s, int code, const char *text);
void hr_io_problem(hr_stream *s, int code, const char *text);
int hr_find_commands(hr_stream *s, int64_t *position);
int hr_find_answered(hr_stream *s);
int hr_read_frame(hr_stream *s, const char *simulation, int64_t offset, hr_state *out);

#endif
