// Gray-Scott's reaction and diffusion in a periodic cube, in C++ with MPI; streamed and steered.
//
//     mpiexec -n 2 ./gray_scott_cpp stager=tcp://127.0.0.1:5555 size=64 steps=2000 every=20
//
// Each rank owns some planes, exchanges the planes beside them with its neighbours, and streams what
// it owns. Words are NAME=VALUE: size, steps, feed, kill, name; any other is an option of
// headrace.h. stager=none runs without a link, to compare with.
#include <headrace.h>
#include <mpi.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

namespace {

using Words = std::map<std::string, std::string>;

struct Parameters {
    double feed = 0.03, kill = 0.06;
    const double diffusion_u = 0.16, diffusion_v = 0.08, dt = 0.5;
};

// A rank's planes of both species, with a plane of its neighbour's on either side.
class System {
public:
    System(int64_t size, int rank, int ranks)
        : size(size), begin(size * rank / ranks), end(size * (rank + 1) / ranks), plane(size * size),
          before((rank + ranks - 1) % ranks), after((rank + 1) % ranks),
          u(static_cast<size_t>((end - begin + 2) * plane), 1.0), v(u.size(), 0.0), next_u(u),
          next_v(v)
    {
        const int64_t low = size / 2 - size / 8, high = size / 2 + size / 8;
        auto inside = [&](int64_t i) { return i >= low && i < high; };
        for (int64_t z = begin; z < end; z++)
            for (int64_t y = 0; y < size; y++)
                for (int64_t x = 0; x < size; x++) {
                    const auto at = static_cast<size_t>((z - begin + 1) * plane + y * size + x);
                    // Noise that does not depend on how the planes are shared out.
                    const double wave = std::sin(12.9898 * static_cast<double>(x) +
                                                 78.233 * static_cast<double>(y) +
                                                 37.719 * static_cast<double>(z));
                    if (inside(x) && inside(y) && inside(z)) {
                        u[at] = 0.5;
                        v[at] = 0.25;
                    }
                    u[at] -= 0.01 * (1.0 + wave);
                    v[at] += 0.01 * (1.0 + wave);
                }
    }

    void step(const Parameters &p)
    {
        exchange(u);
        exchange(v);
        const int64_t n = size;
        for (int64_t z = 1; z <= end - begin; z++)
            for (int64_t y = 0; y < n; y++) {
                const int64_t row = z * plane + y * n;
                const int64_t up = z * plane + (y + 1) % n * n, down = z * plane + (y + n - 1) % n * n;
                for (int64_t x = 0; x < n; x++) {
                    const int64_t left = row + (x + n - 1) % n, right = row + (x + 1) % n;
                    auto laplacian = [&](const std::vector<double> &f) {
                        auto get = [&](int64_t i) { return f[static_cast<size_t>(i)]; };
                        return get(left) + get(right) + get(up + x) + get(down + x) +
                               get(row + x - plane) + get(row + x + plane) - 6.0 * get(row + x);
                    };
                    const auto at = static_cast<size_t>(row + x);
                    const double reaction = u[at] * v[at] * v[at];
                    next_u[at] = u[at] + p.dt * (p.diffusion_u * laplacian(u) - reaction +
                                                 p.feed * (1.0 - u[at]));
                    next_v[at] = v[at] + p.dt * (p.diffusion_v * laplacian(v) + reaction -
                                                 (p.feed + p.kill) * v[at]);
                }
            }
        u.swap(next_u);
        v.swap(next_v);
    }

    const double *own(const std::vector<double> &field) const { return field.data() + plane; }
    size_t bytes() const { return sizeof(double) * static_cast<size_t>((end - begin) * plane); }

    const int64_t size, begin, end, plane;
    const int before, after;
    std::vector<double> u, v;

private:
    void exchange(std::vector<double> &field) const
    {
        const int n = static_cast<int>(plane);
        double *first = field.data(), *last = field.data() + (end - begin) * plane;
        MPI_Sendrecv(last, n, MPI_DOUBLE, after, 0, first, n, MPI_DOUBLE, before, 0, MPI_COMM_WORLD,
                     MPI_STATUS_IGNORE);
        MPI_Sendrecv(first + plane, n, MPI_DOUBLE, before, 1, last + plane, n, MPI_DOUBLE, after, 1,
                     MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    }

    std::vector<double> next_u, next_v;
};

// One rank that cannot go on ends all.
int check(int code, const char *what)
{
    if (code < 0) {
        std::fprintf(stderr, "%s: %s\n", what, hr_last_error());
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    return code;
}

hr_stream *open_link(const Words &options, const std::string &name, int64_t size, int rank,
                     int ranks)
{
    const int64_t cube[] = {size, size, size};
    hr_stream *s = nullptr;
    // So that no rank joins what an earlier job that died had opened in part.
    char job[HR_JOB_SIZE] = "";
    if (rank == 0)
        check(hr_make_job(job, sizeof job), "job");
    MPI_Bcast(job, sizeof job, MPI_CHAR, 0, MPI_COMM_WORLD);
    check(hr_new(&s, name.c_str()), "name");
    for (const auto &[option, value] : options)
        check(hr_set(s, option.c_str(), value.c_str()), option.c_str());
    check(hr_set(s, "job", job), "job");
    check(hr_set_number(s, "rank", rank), "rank");
    check(hr_set_number(s, "ranks", ranks), "ranks");
    check(hr_declare(s, "u", HR_FLOAT64, 3, cube, "", HR_DECOMPOSED), "u");
    check(hr_declare(s, "v", HR_FLOAT64, 3, cube, "", HR_DECOMPOSED), "v");
    check(hr_declare(s, "F", HR_FLOAT64, 0, nullptr, "", 0), "F");
    check(hr_attribute(s, "system", "Gray-Scott, periodic cube, Euler"), "attribute");
    check(hr_capability(s, "set", "F", 0.01, 0.1, "", "Feed rate."), "set");
    check(hr_capability(s, "interval", nullptr, 1, 10000, "steps", nullptr), "interval");
    for (const char *kind : {"stop", "pause", "resume"})
        check(hr_capability(s, kind, nullptr, -INFINITY, INFINITY, nullptr, nullptr), kind);
    check(hr_open(s), "open");
    return s;
}

// Rank 0 takes the commands; all ranks apply them at the same step. Returns whether to go on.
bool steer(hr_stream *s, int64_t step, double time, Parameters &p, int rank)
{
    if (rank == 0) {
        hr_command *c = nullptr;
        while (check(hr_poll(s, step, time, &c), "poll") == HR_OK) {
            p.feed = hr_command_value(c); // F is all that can be set
            check(hr_applied(s, c, step, time), "applied");
        }
    }
    double shared[] = {p.feed, static_cast<double>(hr_stopped(s)), static_cast<double>(hr_every(s))};
    MPI_Bcast(shared, 3, MPI_DOUBLE, 0, MPI_COMM_WORLD);
    p.feed = shared[0];
    if (rank != 0)
        check(hr_set_number(s, "every", shared[2]), "every");
    return shared[1] == 0.0;
}

std::string take(Words &words, const std::string &key, const std::string &otherwise)
{
    const auto found = words.find(key);
    if (found == words.end())
        return otherwise;
    const std::string out = found->second;
    words.erase(found);
    return out;
}

} // namespace

int main(int argc, char **argv)
{
    int rank, ranks;
    Words words;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    for (int i = 1; i < argc; i++) {
        const std::string word = argv[i];
        words[word.substr(0, word.find('='))] = word.substr(std::min(word.find('='), word.size() - 1) + 1);
    }
    Parameters p;
    const int64_t size = std::stoll(take(words, "size", "32"));
    const int64_t steps = std::stoll(take(words, "steps", "2000"));
    p.feed = std::stod(take(words, "feed", "0.03"));
    p.kill = std::stod(take(words, "kill", "0.06"));
    const std::string name = take(words, "name", "gray-scott-cpp");
    System system(size, rank, ranks);
    const bool linked = words["stager"] != "none";
    if (words["stager"].empty())
        words.erase("stager"); // from HEADRACE_STAGER
    hr_stream *s = linked ? open_link(words, name, size, rank, ranks) : nullptr;
    int64_t step = 0;
    bool on = true;
    const double began = MPI_Wtime();
    while (on && step < steps) {
        system.step(p);
        step++;
        const double time = static_cast<double>(step) * p.dt;
        if (linked && hr_due(s, step)) {
            check(hr_value(s, "u", system.own(system.u), system.bytes()), "u");
            check(hr_value(s, "v", system.own(system.v), system.bytes()), "v");
            check(hr_value(s, "F", &p.feed, sizeof p.feed), "F");
            check(hr_put_block(s, step, time, system.begin, system.end - system.begin, nullptr), "put");
        }
        if (linked)
            on = steer(s, step, time, p, rank);
    }
    const double seconds = MPI_Wtime() - began;
    if (linked) {
        check(hr_close(s, 1), "close");
        hr_free(&s);
    }
    if (rank == 0)
        std::printf("%lld steps in %.3f s\n", static_cast<long long>(step), seconds);
    MPI_Finalize();
    return 0;
}
