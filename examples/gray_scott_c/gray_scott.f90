! Gray-Scott's reaction and diffusion in a periodic cube, in Fortran with MPI; streamed and steered.
!
!     mpiexec -n 2 ./gray_scott_f stager=tcp://127.0.0.1:5555 size=64 steps=2000 every=20
!
! The same program as gray_scott.cpp: each rank owns some planes u(:, :, k), exchanges the planes
! beside them with its neighbours, and streams what it owns.
program gray_scott
  use mpi_f08
  use headrace
  implicit none
  real(real64), parameter :: diffusion_u = 0.16_real64, diffusion_v = 0.08_real64, dt = 0.5_real64
  real(real64), allocatable, target :: u(:, :, :), v(:, :, :)
  real(real64), allocatable :: next_u(:, :, :), next_v(:, :, :)
  real(real64), target :: feed = 0.03_real64
  real(real64) :: kill = 0.06_real64, began, time
  integer(int64) :: n = 32, steps = 2000, step, first, last, planes
  integer :: rank, ranks, before, after
  character(128) :: name = 'gray-scott-fortran'
  type(hr_stream) :: s
  logical :: on, linked = .true.

  call MPI_Init()
  call MPI_Comm_rank(MPI_COMM_WORLD, rank)
  call MPI_Comm_size(MPI_COMM_WORLD, ranks)
  call read_words(options=.false.)
  if (linked) call open_link()

  ! Planes are counted from 0, as readers do.
  first = n*rank/ranks
  last = n*(rank + 1)/ranks - 1
  planes = last - first + 1
  before = modulo(rank - 1, ranks)
  after = modulo(rank + 1, ranks)
  allocate (u(n, n, first - 1:last + 1), v(n, n, first - 1:last + 1))
  call begin_reaction()
  next_u = u
  next_v = v

  step = 0
  on = .true.
  began = MPI_Wtime()
  do while (on .and. step < steps)
    call advance()
    step = step + 1
    time = real(step, real64)*dt
    if (.not. linked) cycle
    if (s%due(step)) then
      call check(s%value('u', u(:, :, first:last)), 'u')
      call check(s%value('v', v(:, :, first:last)), 'v')
      call check(s%value('F', feed), 'F')
      call check(s%put_block(step, time, first, planes), 'put')
    end if
    call steer()
  end do
  time = MPI_Wtime() - began
  if (linked) then
    call check(s%close(), 'close')
    call s%free()
  end if
  if (rank == 0) print '(i0, a, f0.3, a)', step, ' steps in ', time, ' s'
  call MPI_Finalize()

contains

  ! One rank that cannot go on ends all.
  subroutine check(code, what)
    use, intrinsic :: iso_fortran_env, only: error_unit
    integer, intent(in) :: code
    character(*), intent(in) :: what
    if (code >= 0) return
    write (error_unit, '(3a)') what, ': ', hr_message()
    call MPI_Abort(MPI_COMM_WORLD, 1)
  end subroutine

  ! Words are NAME=VALUE; those that are not ours are options of the stream.
  subroutine read_words(options)
    logical, intent(in) :: options
    character(512) :: word
    integer :: i, at
    do i = 1, command_argument_count()
      call get_command_argument(i, word)
      at = index(word, '=')
      if (at == 0) cycle
      select case (word(:at - 1))
      case ('size')
        read (word(at + 1:), *) n
      case ('steps')
        read (word(at + 1:), *) steps
      case ('feed')
        read (word(at + 1:), *) feed
      case ('kill')
        read (word(at + 1:), *) kill
      case ('name')
        name = word(at + 1:)
      case default
        if (word == 'stager=none') linked = .false.
        if (options) call check(s%set(word(:at - 1), word(at + 1:)), trim(word))
      end select
    end do
  end subroutine

  subroutine open_link()
    character(32) :: job
    call check(s%new(trim(name)), 'name')
    call read_words(options=.true.)
    ! So that no rank joins what an earlier job that died had opened in part.
    if (rank == 0) job = hr_make_job()
    call MPI_Bcast(job, 32, MPI_CHARACTER, 0, MPI_COMM_WORLD)
    call check(s%set('job', job), 'job')
    call check(s%set('rank', rank), 'rank')
    call check(s%set('ranks', ranks), 'ranks')
    call check(s%declare('u', HR_FLOAT64, [n, n, n], decomposed=.true.), 'u')
    call check(s%declare('v', HR_FLOAT64, [n, n, n], decomposed=.true.), 'v')
    call check(s%declare('F', HR_FLOAT64), 'F')
    call check(s%attribute('system', 'Gray-Scott, periodic cube, Euler'), 'attribute')
    call check(s%capability('set', 'F', 0.01_real64, 0.1_real64, text='Feed rate.'), 'set')
    call check(s%capability('interval', minimum=1.0_real64, maximum=1e4_real64, unit='steps'), &
               'interval')
    call check(s%capability('stop'), 'stop')
    call check(s%capability('pause'), 'pause')
    call check(s%capability('resume'), 'resume')
    call check(s%open(), 'open')
  end subroutine

  subroutine begin_reaction()
    integer(int64) :: i, j, k, low, high
    real(real64) :: wave
    low = n/2 - n/8
    high = n/2 + n/8 - 1
    u = 1.0_real64
    v = 0.0_real64
    do k = first, last
      do j = 0, n - 1
        do i = 0, n - 1
          ! Noise that does not depend on how the planes are shared out.
          wave = sin(12.9898_real64*i + 78.233_real64*j + 37.719_real64*k)
          if (min(i, j, k) >= low .and. max(i, j, k) <= high) then
            u(i + 1, j + 1, k) = 0.5_real64
            v(i + 1, j + 1, k) = 0.25_real64
          end if
          u(i + 1, j + 1, k) = u(i + 1, j + 1, k) - 0.01_real64*(1.0_real64 + wave)
          v(i + 1, j + 1, k) = v(i + 1, j + 1, k) + 0.01_real64*(1.0_real64 + wave)
        end do
      end do
    end do
  end subroutine

  subroutine exchange(field)
    real(real64), intent(inout) :: field(n, n, first - 1:last + 1)
    integer :: many
    many = int(n*n)
    call MPI_Sendrecv(field(:, :, last), many, MPI_DOUBLE_PRECISION, after, 0, &
                      field(:, :, first - 1), many, MPI_DOUBLE_PRECISION, before, 0, &
                      MPI_COMM_WORLD, MPI_STATUS_IGNORE)
    call MPI_Sendrecv(field(:, :, first), many, MPI_DOUBLE_PRECISION, before, 1, &
                      field(:, :, last + 1), many, MPI_DOUBLE_PRECISION, after, 1, &
                      MPI_COMM_WORLD, MPI_STATUS_IGNORE)
  end subroutine

  subroutine advance()
    integer(int64) :: i, j, k, left, right, up, down
    real(real64) :: flow, spread, reaction
    call exchange(u)
    call exchange(v)
    do k = first, last
      do j = 1, n
        up = modulo(j, n) + 1
        down = modulo(j - 2, n) + 1
        do i = 1, n
          left = modulo(i - 2, n) + 1
          right = modulo(i, n) + 1
          flow = u(left, j, k) + u(right, j, k) + u(i, up, k) + u(i, down, k) &
                 + u(i, j, k - 1) + u(i, j, k + 1) - 6.0_real64*u(i, j, k)
          spread = v(left, j, k) + v(right, j, k) + v(i, up, k) + v(i, down, k) &
                   + v(i, j, k - 1) + v(i, j, k + 1) - 6.0_real64*v(i, j, k)
          reaction = u(i, j, k)*v(i, j, k)*v(i, j, k)
          next_u(i, j, k) = u(i, j, k) &
                            + dt*(diffusion_u*flow - reaction + feed*(1.0_real64 - u(i, j, k)))
          next_v(i, j, k) = v(i, j, k) &
                            + dt*(diffusion_v*spread + reaction - (feed + kill)*v(i, j, k))
        end do
      end do
    end do
    u(:, :, first:last) = next_u(:, :, first:last)
    v(:, :, first:last) = next_v(:, :, first:last)
  end subroutine

  ! Rank 0 takes the commands; all ranks apply them at the same step.
  subroutine steer()
    type(hr_command) :: c
    real(real64) :: shared(3)
    integer :: code
    if (rank == 0) then
      do
        code = s%poll(step, time, c)
        call check(code, 'poll')
        if (code /= HR_OK) exit
        feed = c%value() ! F is all that can be set
        call check(s%applied(c, step, time), 'applied')
      end do
    end if
    shared = [feed, merge(1.0_real64, 0.0_real64, s%stopped()), real(s%every(), real64)]
    call MPI_Bcast(shared, 3, MPI_DOUBLE_PRECISION, 0, MPI_COMM_WORLD)
    feed = shared(1)
    if (rank /= 0) call check(s%set('every', shared(3)), 'every')
    on = shared(2) == 0.0_real64
  end subroutine
end program gray_scott
