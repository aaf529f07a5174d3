// A simulation in C++ that writes its steps with ADIOS2 and nothing else.
#include <adios2.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

int main(int argc, char **argv)
{
    if (argc != 5)
        return 2;
    const std::string engine = argv[1], name = argv[2];
    const int steps = std::atoi(argv[3]);
    const std::size_t atoms = std::strtoul(argv[4], nullptr, 10);
    adios2::ADIOS adios;
    adios2::IO io = adios.DeclareIO("simulation");
    io.SetEngine(engine);
    if (engine == "SST")
        io.SetParameters({{"DataTransport", "WAN"}, {"QueueLimit", "2"}});
    auto x = io.DefineVariable<double>("x", {atoms, 3}, {0, 0}, {atoms, 3});
    auto energy = io.DefineVariable<float>("pe");
    auto number = io.DefineVariable<std::int32_t>("timestep");
    io.DefineAttribute<std::string>("units", "angstrom", "x");
    std::vector<double> values(3 * atoms);
    adios2::Engine stream = io.Open(name, adios2::Mode::Write);
    for (std::int32_t step = 0; step < steps; ++step)
    {
        for (std::size_t i = 0; i < values.size(); ++i)
            values[i] = step + 0.25 * i;
        stream.BeginStep();
        stream.Put(x, values.data());
        stream.Put(energy, -0.5f * step);
        stream.Put(number, 10 * step);
        stream.EndStep();
    }
    stream.Close();
    return 0;
}
