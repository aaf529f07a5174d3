/* Asks a model: asks STAGER SERVICE ROWS TIMEOUT TIMES; prints what came. */
#include <stdio.h>
#include <stdlib.h>

#include "headrace.h"

static void check(int64_t code, const char *what)
{
    if (code < 0) {
        fprintf(stderr, "%s: %s\n", what, hr_last_error());
        exit(1);
    }
}

int main(int argc, char **argv)
{
    hr_stream *s;
    hr_model *m;
    if (argc < 6)
        return 2;
    int64_t n = atoll(argv[3]);
    double *x = malloc((size_t)n * sizeof *x), *y = malloc((size_t)n * sizeof *y);
    unsigned char *valid = malloc((size_t)n);
    check(hr_new(&s, "w"), "new");
    check(hr_set(s, "stager", argv[1]), "stager");
    check(hr_declare(s, "energy", HR_FLOAT64, 0, NULL, NULL, 0), "declare");
    check(hr_open(s), "open");
    check(hr_model_open(s, argv[2], &m), "model");
    for (int k = 0; k < atoi(argv[5]); k++) {
        for (int64_t i = 0; i < n; i++)
            x[i] = (double)(i + k);
        check(hr_model_input(m, "x", x, n, 1), "input");
        int code = hr_infer(m, atof(argv[4]));
        check(code, "infer");
        int64_t good = hr_model_valid(m, valid, n);
        check(good, "valid");
        if (code == HR_OK)
            check(hr_model_output(m, "y", y, (size_t)n), "output");
        printf("%d %lld %lld [%s]", code, (long long)good, (long long)hr_model_version(m),
               hr_model_reason(m));
        for (int64_t i = 0; i < n && i < 8 && code == HR_OK; i++)
            printf(" %s%g", valid[i] ? "" : "!", y[i]);
        printf("\n");
    }
    if (n > 1 && hr_model_input(m, "x", x, n, 1) == HR_OK)
        printf("%d %s\n", hr_model_input(m, "z", x, n - 1, 1), hr_last_error());
    hr_model_close(&m);
    hr_model_close(&m);
    check(hr_close(s, 1), "close");
    hr_free(&s);
    free(x);
    free(y);
    free(valid);
    return 0;
}
