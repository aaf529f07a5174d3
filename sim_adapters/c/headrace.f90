! Headrace for Fortran: headrace.h, in Fortran's own words. See there for what each call does.
!
!     use headrace
!     type(hr_stream) :: s
!     type(hr_command) :: c
!     integer :: code
!     real(real64), target :: u(nx, ny, nz)
!
!     code = s%new('mixer')
!     code = s%declare('u', HR_FLOAT64, int([nx, ny, nz], int64), unit='mol/l')
!     code = s%open()
!     if (code < 0) print *, hr_message()
!     ...
!     code = s%value('u', u)
!     code = s%put(step, time)
!
! Functions return HR_OK, a number above zero for what is no error, or one below zero; hr_message()
! then has the sentence. Shapes are given as Fortran has them; readers in C order, Python among
! them, see the axes the other way round: u(nx, ny, nz) has the shape (nz, ny, nx) there. What is
! decomposed is therefore split along its last axis in Fortran.
module headrace
  use, intrinsic :: iso_c_binding
  use, intrinsic :: iso_fortran_env, only: int32, int64, real32, real64
  use headrace_c
  implicit none
  private

  integer(c_int), parameter, public :: HR_OK = 0, HR_DROPPED = 1, HR_NONE = 2
  integer(c_int), parameter, public :: HR_ERROR_ARGUMENT = -1, HR_ERROR_STATE = -2, &
    HR_ERROR_SCHEMA = -3, HR_ERROR_ORDER = -4, HR_ERROR_FULL = -5, HR_ERROR_CONFIG = -6, &
    HR_ERROR_NOBODY = -7, HR_ERROR_LOST = -8, HR_ERROR_STALE = -9, HR_ERROR_PROTOCOL = -10, &
    HR_ERROR_VERSION = -11, HR_ERROR_STORAGE = -12, HR_ERROR_STAGER = -13, &
    HR_ERROR_COMMAND = -14, HR_ERROR_MEMORY = -15, HR_ERROR_KEYS = -16
  character(*), parameter, public :: HR_FLOAT32 = '<f4', HR_FLOAT64 = '<f8', HR_INT32 = '<i4', &
    HR_INT64 = '<i8', HR_COMPLEX64 = '<c8', HR_COMPLEX128 = '<c16'
  public :: hr_message, hr_make_job, hr_resumed, hr_statistics, int32, int64, real32, real64

  ! A command; valid until it is answered.
  type, public :: hr_command
    private
    type(c_ptr) :: c = c_null_ptr
  contains
    procedure :: id => command_id
    procedure :: kind => command_kind
    procedure :: parameter => command_parameter
    procedure :: value => command_value
    procedure :: number => command_number
    procedure :: text => command_text
    procedure :: array => command_array
  end type

  ! A stream. It is not to be copied; free it at the end.
  type, public :: hr_stream
    private
    type(c_ptr) :: c = c_null_ptr
  contains
    procedure :: new => stream_new
    procedure, private :: set_text, set_real, set_integer
    generic :: set => set_text, set_real, set_integer
    procedure :: declare => stream_declare
    procedure :: describe => stream_describe
    procedure :: attribute => stream_attribute
    procedure :: capability => stream_capability
    procedure :: open => stream_open
    procedure :: resumed => stream_resumed
    procedure :: due => stream_due
    procedure, private :: value_real32, value_real64, value_int32, value_int64
    generic :: value => value_real32, value_real64, value_int32, value_int64
    procedure :: put => stream_put
    procedure :: put_block => stream_put_block
    procedure :: flush => stream_flush
    procedure :: event => stream_event
    procedure :: poll => stream_poll
    procedure :: load => stream_load
    procedure :: applied => stream_applied
    procedure :: refuse => stream_refuse
    procedure :: wait => stream_wait
    procedure :: stopped => stream_stopped
    procedure :: every => stream_every
    procedure :: epoch => stream_epoch
    procedure :: close => stream_close
    procedure :: free => stream_free
    procedure :: statistics => stream_statistics
  end type

  ! A model that is served beside, and may be asked for what a simulation would else compute:
  !
  !     type(hr_model) :: m
  !     code = m%open(s, 'rate')
  !     ...
  !     code = m%input('u', u)                 ! u(rows), or u(width, rows)
  !     if (m%infer(1.0_real64) == HR_OK) code = m%output('rate', rate)
  !     count = m%valid(good)                  ! logical :: good(rows)
  !     where (.not. good) rate = ...
  !     call m%close()
  type, public :: hr_model
    private
    type(c_ptr) :: c = c_null_ptr
  contains
    procedure :: open => model_open
    procedure, private :: input_column, input_rows
    generic :: input => input_column, input_rows
    procedure :: infer => model_infer
    procedure :: valid => model_valid
    procedure, private :: output_column, output_rows
    generic :: output => output_column, output_rows
    procedure :: version => model_version
    procedure :: reason => model_reason
    procedure :: close => model_close
  end type

contains

  function text_at(pointer) result(text)
    type(c_ptr), intent(in) :: pointer
    character(:), allocatable :: text
    character(kind=c_char), pointer :: letters(:)
    integer :: i, n
    n = int(c_strlen(pointer))
    allocate (character(n) :: text)
    if (n == 0) return
    call c_f_pointer(pointer, letters, [n])
    do i = 1, n
      text(i:i) = letters(i)
    end do
  end function

  ! Text for C: without the blanks at its end, with a zero.
  pure function zero(text) result(out)
    character(*), intent(in), optional :: text
    character(:), allocatable :: out
    out = c_null_char
    if (present(text)) out = trim(text)//c_null_char
  end function

  ! The sentence of the last call that failed in this thread.
  function hr_message() result(text)
    character(:), allocatable :: text
    text = text_at(c_last_error())
  end function

  ! A word for the option 'job', made by rank 0, which broadcasts it to the others; blank if the
  ! system has no random numbers.
  function hr_make_job() result(word)
    character(32) :: word
    character(kind=c_char) :: letters(33)
    integer :: i
    word = ' '
    if (c_make_job(letters, 33_c_size_t) < 0) return
    do i = 1, 32
      word(i:i) = letters(i)
    end do
  end function

  integer function stream_new(s, simulation) result(code)
    class(hr_stream), intent(inout) :: s
    character(*), intent(in) :: simulation
    call s%free()
    code = c_new(s%c, zero(simulation))
  end function

  integer function set_text(s, option, text) result(code)
    class(hr_stream), intent(in) :: s
    character(*), intent(in) :: option, text
    code = c_set(s%c, zero(option), zero(text))
  end function

  integer function set_real(s, option, number) result(code)
    class(hr_stream), intent(in) :: s
    character(*), intent(in) :: option
    real(real64), intent(in) :: number
    code = c_set_number(s%c, zero(option), number)
  end function

  integer function set_integer(s, option, number) result(code)
    class(hr_stream), intent(in) :: s
    character(*), intent(in) :: option
    integer, intent(in) :: number
    code = c_set_number(s%c, zero(option), real(number, real64))
  end function

  ! Without a shape, a number.
  integer function stream_declare(s, name, dtype, shape, unit, decomposed) result(code)
    class(hr_stream), intent(in) :: s
    character(*), intent(in) :: name, dtype
    integer(int64), intent(in), optional :: shape(:)
    character(*), intent(in), optional :: unit
    logical, intent(in), optional :: decomposed
    integer(int64), allocatable :: reversed(:)
    integer(c_int) :: flags
    flags = 0
    if (present(decomposed)) flags = merge(1_c_int, 0_c_int, decomposed)
    allocate (reversed(0))
    if (present(shape)) reversed = shape(size(shape):1:-1)
    code = c_declare(s%c, zero(name), zero(dtype), int(size(reversed), c_int), reversed, &
                     zero(unit), flags)
  end function

  integer function stream_describe(s, name, text) result(code)
    class(hr_stream), intent(in) :: s
    character(*), intent(in) :: name, text
    code = c_describe(s%c, zero(name), zero(text))
  end function

  integer function stream_attribute(s, name, text) result(code)
    class(hr_stream), intent(in) :: s
    character(*), intent(in) :: name, text
    code = c_attribute(s%c, zero(name), zero(text))
  end function

  integer function stream_capability(s, kind, parameter, minimum, maximum, unit, text) result(code)
    use, intrinsic :: ieee_arithmetic, only: ieee_value, ieee_negative_inf, ieee_positive_inf
    class(hr_stream), intent(in) :: s
    character(*), intent(in) :: kind
    character(*), intent(in), optional :: parameter, unit, text
    real(real64), intent(in), optional :: minimum, maximum
    real(c_double) :: low, high
    low = ieee_value(low, ieee_negative_inf)
    high = ieee_value(high, ieee_positive_inf)
    if (present(minimum)) low = minimum
    if (present(maximum)) high = maximum
    code = c_capability(s%c, zero(kind), zero(parameter), low, high, zero(unit), zero(text))
  end function

  integer function stream_open(s) result(code)
    class(hr_stream), intent(in) :: s
    code = c_open(s%c)
  end function

  integer function stream_resumed(s, resumed) result(code)
    class(hr_stream), intent(in) :: s
    type(hr_resumed), intent(out) :: resumed
    code = c_get_resumed(s%c, resumed)
  end function

  logical function stream_due(s, step) result(yes)
    class(hr_stream), intent(in) :: s
    integer(int64), intent(in) :: step
    yes = c_due(s%c, step) /= 0
  end function

  ! The data of a variable for the next put, of any rank. They are copied by that put, must stay
  ! until then, and must be contiguous: declare them TARGET, and pass no part of an array that
  ! has gaps.
  integer function value_real32(s, name, data) result(code)
    class(hr_stream), intent(in) :: s
    character(*), intent(in) :: name
    real(c_float), intent(in), target :: data(..)
    code = give(s, name, c_loc(data), 4_c_size_t*size(data, kind=c_size_t), is_contiguous(data))
  end function

  integer function value_real64(s, name, data) result(code)
    class(hr_stream), intent(in) :: s
    character(*), intent(in) :: name
    real(c_double), intent(in), target :: data(..)
    code = give(s, name, c_loc(data), 8_c_size_t*size(data, kind=c_size_t), is_contiguous(data))
  end function

  integer function value_int32(s, name, data) result(code)
    class(hr_stream), intent(in) :: s
    character(*), intent(in) :: name
    integer(c_int32_t), intent(in), target :: data(..)
    code = give(s, name, c_loc(data), 4_c_size_t*size(data, kind=c_size_t), is_contiguous(data))
  end function

  integer function value_int64(s, name, data) result(code)
    class(hr_stream), intent(in) :: s
    character(*), intent(in) :: name
    integer(c_int64_t), intent(in), target :: data(..)
    code = give(s, name, c_loc(data), 8_c_size_t*size(data, kind=c_size_t), is_contiguous(data))
  end function

  integer function give(s, name, data, bytes, contiguous_) result(code)
    class(hr_stream), intent(in) :: s
    character(*), intent(in) :: name
    type(c_ptr), intent(in) :: data
    integer(c_size_t), intent(in) :: bytes
    logical, intent(in) :: contiguous_
    if (contiguous_) then
      code = c_value(s%c, zero(name), data, bytes)
    else
      ! It says so in a sentence of its own: bytes without data.
      code = c_value(s%c, zero(name), c_null_ptr, max(bytes, 1_c_size_t))
    end if
  end function

  integer function stream_put(s, step, time) result(code)
    class(hr_stream), intent(in) :: s
    integer(int64), intent(in) :: step
    real(real64), intent(in) :: time
    code = c_put(s%c, step, time)
  end function

  ! Rows are those of the last axis; start and ids count from 0.
  integer function stream_put_block(s, step, time, start, rows, ids) result(code)
    class(hr_stream), intent(in) :: s
    integer(int64), intent(in) :: step, start, rows
    real(real64), intent(in) :: time
    integer(int64), intent(in), target, contiguous, optional :: ids(:)
    type(c_ptr) :: pointer
    pointer = c_null_ptr
    if (present(ids)) then
      if (size(ids) /= rows) then
        code = c_put_block(s%c, step, time, start, -1_c_int64_t, c_null_ptr)
        return
      end if
      if (rows > 0) pointer = c_loc(ids)
    end if
    code = c_put_block(s%c, step, time, start, rows, pointer)
  end function

  integer function stream_flush(s, timeout) result(code)
    class(hr_stream), intent(in) :: s
    real(real64), intent(in), optional :: timeout
    real(c_double) :: seconds
    seconds = -1.0_c_double
    if (present(timeout)) seconds = timeout
    code = c_flush(s%c, seconds)
  end function

  integer function stream_event(s, kind, level, message) result(code)
    class(hr_stream), intent(in) :: s
    character(*), intent(in) :: kind, level, message
    code = c_event(s%c, zero(kind), zero(level), zero(message))
  end function

  integer function stream_poll(s, step, time, command) result(code)
    class(hr_stream), intent(in) :: s
    integer(int64), intent(in) :: step
    real(real64), intent(in) :: time
    type(hr_command), intent(out) :: command
    code = c_poll(s%c, step, time, command%c)
  end function

  integer function stream_load(s, command) result(code)
    class(hr_stream), intent(in) :: s
    type(hr_command), intent(in) :: command
    code = c_load(s%c, command%c)
  end function

  integer function stream_applied(s, command, step, time) result(code)
    class(hr_stream), intent(in) :: s
    type(hr_command), intent(inout) :: command
    integer(int64), intent(in) :: step
    real(real64), intent(in) :: time
    code = c_applied(s%c, command%c, step, time)
    command%c = c_null_ptr
  end function

  integer function stream_refuse(s, command, reason, step, time) result(code)
    class(hr_stream), intent(in) :: s
    type(hr_command), intent(inout) :: command
    character(*), intent(in) :: reason
    integer(int64), intent(in) :: step
    real(real64), intent(in) :: time
    code = c_refuse(s%c, command%c, zero(reason), step, time)
    command%c = c_null_ptr
  end function

  integer function stream_wait(s, seconds) result(code)
    class(hr_stream), intent(in) :: s
    real(real64), intent(in) :: seconds
    code = c_wait(s%c, seconds)
  end function

  logical function stream_stopped(s) result(yes)
    class(hr_stream), intent(in) :: s
    yes = c_stopped(s%c) /= 0
  end function

  integer(int64) function stream_every(s) result(steps)
    class(hr_stream), intent(in) :: s
    steps = c_every(s%c)
  end function

  integer function stream_epoch(s) result(epoch)
    class(hr_stream), intent(in) :: s
    epoch = c_epoch(s%c)
  end function

  integer function stream_close(s, finished) result(code)
    class(hr_stream), intent(in) :: s
    logical, intent(in), optional :: finished
    integer(c_int) :: yes
    yes = 1
    if (present(finished)) yes = merge(1_c_int, 0_c_int, finished)
    code = c_close(s%c, yes)
  end function

  subroutine stream_free(s)
    class(hr_stream), intent(inout) :: s
    call c_free(s%c)
  end subroutine

  integer function stream_statistics(s, statistics) result(code)
    class(hr_stream), intent(in) :: s
    type(hr_statistics), intent(out) :: statistics
    code = c_get_statistics(s%c, statistics)
  end function

  function command_id(command) result(text)
    class(hr_command), intent(in) :: command
    character(:), allocatable :: text
    text = text_at(c_command_id(command%c))
  end function

  function command_kind(command) result(text)
    class(hr_command), intent(in) :: command
    character(:), allocatable :: text
    text = text_at(c_command_kind(command%c))
  end function

  function command_parameter(command) result(text)
    class(hr_command), intent(in) :: command
    character(:), allocatable :: text
    text = text_at(c_command_parameter(command%c))
  end function

  real(real64) function command_value(command) result(number)
    class(hr_command), intent(in) :: command
    number = c_command_value(command%c)
  end function

  integer function command_number(command, name, number) result(code)
    class(hr_command), intent(in) :: command
    character(*), intent(in) :: name
    real(real64), intent(out) :: number
    code = c_command_number(command%c, zero(name), number)
  end function

  ! The text, which is empty where there is none.
  function command_text(command, name) result(text)
    class(hr_command), intent(in) :: command
    character(*), intent(in) :: name
    character(:), allocatable :: text
    character(kind=c_char) :: none(1)
    character(:), allocatable :: room
    integer(c_int64_t) :: n
    none(1) = c_null_char
    n = c_command_text(command%c, zero(name), none, 0_c_size_t)
    allocate (character(max(n, 0_c_int64_t) + 1) :: room)
    if (n > 0) n = c_command_text(command%c, zero(name), room, int(n + 1, c_size_t))
    text = room(1:max(n, 0_c_int64_t))
  end function

  integer function command_array(command, name, numbers) result(code)
    class(hr_command), intent(in) :: command
    character(*), intent(in) :: name
    real(real64), intent(out), contiguous :: numbers(:)
    code = c_command_array(command%c, zero(name), numbers, size(numbers, kind=c_size_t))
  end function

  integer function model_open(model, s, service) result(code)
    class(hr_model), intent(inout) :: model
    class(hr_stream), intent(in) :: s
    character(*), intent(in) :: service
    code = c_model_open(s%c, zero(service), model%c)
  end function

  integer function input_column(model, name, values) result(code)
    class(hr_model), intent(in) :: model
    character(*), intent(in) :: name
    real(real64), intent(in), target, contiguous :: values(:)
    code = c_model_input(model%c, zero(name), place(values, size(values)), &
      size(values, kind=c_int64_t), 1_c_int64_t)
  end function

  integer function input_rows(model, name, values) result(code)
    class(hr_model), intent(in) :: model
    character(*), intent(in) :: name
    real(real64), intent(in), target, contiguous :: values(:, :)
    code = c_model_input(model%c, zero(name), place(values, size(values)), &
      size(values, 2, kind=c_int64_t), size(values, 1, kind=c_int64_t))
  end function

  ! HR_NONE, and no row is valid, where nobody answers in `timeout` seconds.
  integer function model_infer(model, timeout) result(code)
    class(hr_model), intent(in) :: model
    real(real64), intent(in) :: timeout
    code = c_infer(model%c, timeout)
  end function

  ! Which rows may be used; returns how many, or an error.
  integer(int64) function model_valid(model, valid) result(count)
    class(hr_model), intent(in) :: model
    logical, intent(out) :: valid(:)
    integer(c_signed_char), allocatable :: flags(:)
    allocate (flags(max(size(valid), 1)), source=0_c_signed_char)
    count = c_model_valid(model%c, flags, size(valid, kind=c_int64_t))
    valid = flags(:size(valid)) /= 0
  end function

  integer function output_column(model, name, values) result(code)
    class(hr_model), intent(in) :: model
    character(*), intent(in) :: name
    real(real64), intent(inout), target, contiguous :: values(:)
    code = c_model_output(model%c, zero(name), place(values, size(values)), &
      size(values, kind=c_size_t))
  end function

  integer function output_rows(model, name, values) result(code)
    class(hr_model), intent(in) :: model
    character(*), intent(in) :: name
    real(real64), intent(inout), target, contiguous :: values(:, :)
    code = c_model_output(model%c, zero(name), place(values, size(values)), &
      size(values, kind=c_size_t))
  end function

  ! The address of an array, of whatever rank; none of an empty one.
  function place(values, n) result(pointer)
    real(real64), intent(in), target :: values(*)
    integer, intent(in) :: n
    type(c_ptr) :: pointer
    pointer = c_null_ptr
    if (n > 0) pointer = c_loc(values)
  end function

  ! Of the answer; 0 if there is none.
  integer(int64) function model_version(model) result(version)
    class(hr_model), intent(in) :: model
    version = c_model_version(model%c)
  end function

  ! Why rows are not valid; blank if all are.
  function model_reason(model) result(text)
    class(hr_model), intent(in) :: model
    character(:), allocatable :: text
    text = text_at(c_model_reason(model%c))
  end function

  subroutine model_close(model)
    class(hr_model), intent(inout) :: model
    call c_model_close(model%c)
  end subroutine
end module headrace
