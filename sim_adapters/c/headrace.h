/*
 * Headrace for simulations in C, C++ and Fortran.
 *
 * A simulation declares what its frames hold, opens its stream, and puts frames; commands come
 * back by the same way. One thread of the library does the sending, so that a put costs one copy.
 *
 *     hr_stream *s;
 *     int64_t shape[] = {n, 3};
 *     hr_new(&s, "melt");
 *     hr_declare(s, "positions", HR_FLOAT64, 2, shape, "nm", 0);
 *     hr_capability(s, "set", "temperature", 250, 400, "K", "Of the thermostat.");
 *     if (hr_open(s) < 0) fprintf(stderr, "%s\n", hr_last_error());
 *     for (step = 0; step < steps && !hr_stopped(s); step++) {
 *         advance();
 *         if (hr_due(s, step)) {
 *             hr_value(s, "positions", x, sizeof x);
 *             hr_put(s, step, step * dt);
 *         }
 *         while (hr_poll(s, step, step * dt, &c) == HR_OK) {
 *             temperature = hr_command_value(c);
 *             hr_applied(s, c, step, step * dt);
 *         }
 *     }
 *     hr_close(s, 1);
 *     hr_free(&s);
 *
 * Errors: functions return HR_OK, a number above zero for what is no error, or one below zero;
 * hr_last_error() then has a sentence that says what was wrong and what to do.
 *
 * Threads: one thread at a time puts (hr_value, hr_put, hr_put_block) and one thread at a time
 * takes and answers commands; these two may differ. hr_flush, hr_event, hr_wait and
 * hr_get_statistics may be called from any thread. hr_new, the functions before hr_open, hr_open
 * itself, hr_close and hr_free want the stream for themselves. Different streams are independent.
 * The library's thread takes no signals and never calls MPI. After fork(), only the parent may
 * use a stream. A process that exits without hr_close loses what was not sent yet.
 */
#ifndef HEADRACE_H
#define HEADRACE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Version of the wire format that the library speaks; see docs/wire-format.md. */
#define HEADRACE_WIRE_VERSION 1

typedef struct hr_stream hr_stream;
typedef struct hr_command hr_command;

/* What functions return. */
enum {
    HR_OK = 0,
    HR_DROPPED = 1,         /* the stream was full, and its policy gave up this frame */
    HR_NONE = 2,            /* there is no command */
    HR_ERROR_ARGUMENT = -1, /* an argument cannot be right */
    HR_ERROR_STATE = -2,    /* the function cannot be called now */
    HR_ERROR_SCHEMA = -3,   /* a frame or declaration does not fit */
    HR_ERROR_ORDER = -4,    /* steps must increase */
    HR_ERROR_FULL = -5,     /* no room came free in time */
    HR_ERROR_CONFIG = -6,   /* an address, a key or an option is wrong */
    HR_ERROR_NOBODY = -7,   /* no stager answered */
    HR_ERROR_LOST = -8,     /* the stager has not answered for too long */
    HR_ERROR_STALE = -9,    /* a newer life of the simulation took the stream over */
    HR_ERROR_PROTOCOL = -10,/* a peer says what cannot be understood */
    HR_ERROR_VERSION = -11, /* a peer speaks another version */
    HR_ERROR_STORAGE = -12, /* the stager has no room */
    HR_ERROR_STAGER = -13,  /* the stager refused, for another reason */
    HR_ERROR_COMMAND = -14, /* a command does not carry what is asked for */
    HR_ERROR_MEMORY = -15,  /* there is no memory, or no thread or socket */
    HR_ERROR_KEYS = -16     /* the stager is there and refuses the key, or wants one, or has none */
};

/* A sentence about a code; never NULL. */
const char *hr_error_string(int code);

/* The sentence of the last call that failed in this thread; "" before the first. */
const char *hr_last_error(void);

/* ------------------------------------------------------------------------- before opening */

/*
 * Make a stream that is not open yet. The name has 1 to 128 letters, digits, '_', '.' or '-';
 * the frames lie in the topic "frames/<name>". On failure *stream is NULL.
 */
int hr_new(hr_stream **stream, const char *simulation);

/*
 * Set an option; hr_set_number does the same with a number.
 *
 *   stager         address, or several with commas; default: HEADRACE_STAGER
 *   run_directory  folder in which the stager announces itself (stager.json)
 *   keys           folder with client.key and stager.pub, for an encrypted connection;
 *                  default: HEADRACE_KEYS
 *   rank, ranks    which of how many processes writes blocks of every frame; default 0 of 1
 *   job            a word that the ranks of one job have in common, and no other job has, so that
 *                  none of them joins what an earlier job left half opened; see hr_make_job
 *   when_full      "block", "drop_oldest", "drop_newest" or "latest"; default "block"
 *   capacity       bytes that the stream may hold; default 256 MiB
 *   keep           bytes that stay readable behind all consumers; default 32 MiB
 *   segment        bytes of one segment; default 0, the stager chooses
 *   mapped         "auto", "yes" or "no": write into the stager's memory; default "auto"
 *   time_unit      unit of the frames' time
 *   selection      what is sent of the whole system, in words
 *   every          steps between two frames, for hr_due; may be set at any time; default 1
 *   timeout        seconds to wait for an answer of the stager; at any time; default 10
 *   patience       seconds that a put waits for room; at any time; default 600
 *   linger         seconds for which small frames are gathered; at any time; default 0.0005
 */
int hr_set(hr_stream *stream, const char *option, const char *value);
int hr_set_number(hr_stream *stream, const char *option, double value);

/*
 * Make a word for the option "job", as rank 0, which broadcasts it to the others:
 *
 *     char job[HR_JOB_SIZE] = "";
 *     if (rank == 0) hr_make_job(job, sizeof job);
 *     MPI_Bcast(job, sizeof job, MPI_CHAR, 0, MPI_COMM_WORLD);
 *     hr_set(s, "job", job);
 */
#define HR_JOB_SIZE 33
int hr_make_job(char *word, size_t size);

/* Types of values: NumPy's type strings; any other that NumPy knows with 'b', 'i', 'u', 'f',
 * 'c' or 'S' may be given, too. */
#define HR_BOOL "|b1"
#define HR_INT8 "|i1"
#define HR_INT16 "<i2"
#define HR_INT32 "<i4"
#define HR_INT64 "<i8"
#define HR_UINT8 "|u1"
#define HR_UINT16 "<u2"
#define HR_UINT32 "<u4"
#define HR_UINT64 "<u8"
#define HR_FLOAT32 "<f4"
#define HR_FLOAT64 "<f8"
#define HR_COMPLEX64 "<c8"
#define HR_COMPLEX128 "<c16"

/* The first axis is split over the ranks; the shape is the global one. */
#define HR_DECOMPOSED 1

/* Declare a variable of every frame; shape in C order, ndim 0 for a number. */
int hr_declare(hr_stream *stream, const char *name, const char *dtype, int ndim,
               const int64_t *shape, const char *unit, int flags);

/* Say in one sentence what a variable is. */
int hr_describe(hr_stream *stream, const char *name, const char *text);

/* Tell readers something else about the stream. */
int hr_attribute(hr_stream *stream, const char *name, const char *value);

/* Describe n particles, in the order in which they are sent; whatever is not known is NULL.
 * Masses are in unified atomic mass units. */
int hr_particles(hr_stream *stream, size_t n, const char *const *names,
                 const char *const *elements, const char *const *residues,
                 const int64_t *residue_ids, const double *masses);

/* n bonds as pairs of particle numbers, from 0. */
int hr_bonds(hr_stream *stream, size_t n, const int64_t *pairs);

/*
 * Let others do something: kind is "set", "restart", "pause", "resume", "stop" or "interval".
 * Bounds are inclusive; -INFINITY and INFINITY for none. Text may be NULL. All ranks declare the
 * same; rank 0 takes the commands.
 */
int hr_capability(hr_stream *stream, const char *kind, const char *parameter, double minimum,
                  double maximum, const char *unit, const char *description);

/* Find the stager and open the stream. May be tried again after a failure. */
int hr_open(hr_stream *stream);

/* Where the stream stood when it was opened. */
typedef struct hr_resumed {
    int64_t incarnation; /* which life of the simulation this is, from 1 */
    int64_t next_offset; /* offset of the next frame; 0 for a new stream */
    int64_t last_step;   /* step of the newest frame; -1 if there is none */
    double last_time;    /* its time */
    int64_t last_epoch;  /* its epoch */
    int mapped;          /* whether frames are written into the stager's memory */
} hr_resumed;

int hr_get_resumed(hr_stream *stream, hr_resumed *resumed);

/* ------------------------------------------------------------------------------- frames */

/* 1 if a frame is due at this step: "every" steps after the last one, and the first at once. */
int hr_due(hr_stream *stream, int64_t step);

/*
 * Name the data of a variable for the next put, in C order. The data are copied by that put and
 * must stay until then. `bytes` is what the variable must have: of a decomposed variable, the
 * rows of this rank.
 */
int hr_value(hr_stream *stream, const char *name, const void *data, size_t bytes);

/*
 * Put one frame, of the values named before; each variable is needed. Returns after one copy,
 * unless the stream is full: then, by its policy, it waits up to "patience" seconds for room
 * (HR_ERROR_FULL), or gives the frame up (HR_DROPPED). A stop that comes while it waits is applied
 * at this step and ends the wait: the frame is given up, and counted as dropped. Ranks other than
 * rank 0 give it up as well; they take no commands, so tell them that rank 0's hr_stopped is 1.
 */
int hr_put(hr_stream *stream, int64_t step, double time);

/*
 * Put this rank's block of a decomposed frame; each rank puts one for each step.
 *
 *   start  first global row of the block
 *   rows   rows that this rank has; may change from frame to frame
 *   ids    the global row of each row, where they are not contiguous; else NULL
 */
int hr_put_block(hr_stream *stream, int64_t step, double time, int64_t start, int64_t rows,
                 const int64_t *ids);

/* Wait until all that was put is stored, `timeout` seconds at most; < 0: the option's. */
int hr_flush(hr_stream *stream, double timeout);

/* Tell people something: a short word, "info", "warning" or "error", and a sentence. */
int hr_event(hr_stream *stream, const char *kind, const char *level, const char *message);

/* ----------------------------------------------------------------------------- commands */

/*
 * Take the next command that is due: HR_OK and *command, or HR_NONE. Answer it with hr_applied
 * or hr_refuse. Commands to pause, resume, stop, or change the interval are carried out and
 * answered here, those outside the declared bounds are refused, and none is handed out twice.
 * Never waits, except while the simulation is paused: then until a resume or a stop.
 * Only rank 0 gets commands.
 */
int hr_poll(hr_stream *stream, int64_t step, double time, hr_command **command);

/* Answer a command, which is not valid any more then: it took effect at this step; or not. */
int hr_applied(hr_stream *stream, hr_command *command, int64_t step, double time);
int hr_refuse(hr_stream *stream, hr_command *command, const char *reason, int64_t step,
              double time);

/* Wait for a command, `seconds` at most: HR_OK if there is one, else HR_NONE. */
int hr_wait(hr_stream *stream, double seconds);

int hr_stopped(hr_stream *stream);       /* 1 once a stop was applied */
int64_t hr_every(hr_stream *stream);     /* steps between frames; commands change it */
int32_t hr_epoch(hr_stream *stream);     /* goes up with each restart that was applied */
/* HR_OK and the earliest step that a waiting command asks for, or HR_NONE. */
int hr_next_command(hr_stream *stream, int64_t *step);

const char *hr_command_id(const hr_command *command);
const char *hr_command_kind(const hr_command *command);      /* "set" or "restart" */
const char *hr_command_parameter(const hr_command *command); /* of a "set" */
double hr_command_value(const hr_command *command);          /* of a "set"; NaN if it has none */

/*
 * What a command carries, by name: a field ("value", "reason", "author", "velocities",
 * "expires", ...), an entry of its evidence, or, of a restart's enclosed state, an entry or array.
 *
 * hr_command_text writes at most `size` bytes with the final zero, and returns the length that
 * the text has, or an error. hr_command_array converts to double and wants exactly `count`
 * numbers, all finite. hr_command_count gives the number of elements, or an error.
 */
int hr_command_number(const hr_command *command, const char *name, double *value);
int64_t hr_command_text(const hr_command *command, const char *name, char *text, size_t size);
int64_t hr_command_count(const hr_command *command, const char *name);
int hr_command_array(const hr_command *command, const char *name, double *values, size_t count);

/* Look up the frame that a restart refers to, so that its arrays can be read; nothing to do
 * where the state is enclosed. Waits up to "timeout" seconds for the stager. */
int hr_command_load(hr_stream *stream, hr_command *command);

/* ---------------------------------------------------------------------------------- end */

/*
 * Store what was put, answer what is left, say goodbye and end the thread. finished != 0 tells
 * readers that no more frames will come; 0 leaves the stream to another life of the simulation.
 * May be called again, which does nothing. Fails if something could not be stored in time; after a
 * stop that is counted as dropped instead.
 */
int hr_close(hr_stream *stream, int finished);

/* Free a stream, closing it as not finished if it is open, and set the pointer to NULL. */
void hr_free(hr_stream **stream);

typedef struct hr_statistics {
    int64_t frames;       /* frames put */
    int64_t bytes;        /* bytes of their variables */
    int64_t acknowledged; /* frames that the stager has stored */
    int64_t dropped;      /* frames that the policy gave up here */
    int64_t reconnects;   /* times the stager had to be found again */
    double waited;        /* seconds for which puts waited for room */
    int64_t delivered;    /* commands that arrived, repeats included */
    int64_t repeated;     /* of these, repeats */
    int64_t applied, refused, expired; /* answers */
} hr_statistics;

int hr_get_statistics(hr_stream *stream, hr_statistics *statistics);

/* ------------------------------------------------------------------------------- models */

/*
 * A model that is served beside ("headrace serve-model"), and may be asked for what a simulation
 * would else compute:
 *
 *     hr_model *m;
 *     hr_model_open(s, "rate", &m);
 *     ...
 *     hr_model_input(m, "u", u, n, 1);
 *     hr_model_input(m, "v", v, n, 1);
 *     int answered = hr_infer(m, 1.0) == HR_OK;
 *     hr_model_valid(m, valid, n);
 *     if (answered) hr_model_output(m, "rate", rate, n);
 *     for (i = 0; i < n; i++) if (!valid[i]) rate[i] = compute(u[i], v[i]);
 *     ...
 *     hr_model_close(&m);
 *
 * hr_infer returns HR_NONE, and no row is valid, where nobody answers in `timeout` seconds; the
 * service is then not asked for 5 seconds, so that one that is away costs little. A row that is
 * not valid lies outside of what the model has learned: its output means nothing. Each rank opens
 * a model for itself; what waits is answered together.
 */
typedef struct hr_model hr_model;

int hr_model_open(hr_stream *stream, const char *service, hr_model **model);
/* An input of the next request, which copies it: `rows` times `width` numbers, row by row. */
int hr_model_input(hr_model *model, const char *name, const double *values, int64_t rows,
                   int64_t width);
int hr_infer(hr_model *model, double timeout);
/* Which rows may be used (`valid` may be NULL); returns how many. */
int64_t hr_model_valid(const hr_model *model, unsigned char *valid, int64_t rows);
int hr_model_output(const hr_model *model, const char *name, double *values, size_t count);
int64_t hr_model_version(const hr_model *model);    /* of the answer; 0 if there is none */
const char *hr_model_reason(const hr_model *model); /* why rows are not valid; "" if all are */
void hr_model_close(hr_model **model);

#ifdef __cplusplus
}
#endif
#endif
