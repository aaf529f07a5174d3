! The functions of headrace.h, for the module headrace alone.
module headrace_c
  use, intrinsic :: iso_c_binding
  implicit none
  public

  ! Where a stream stood when it was opened.
  type, bind(c), public :: hr_resumed
    integer(c_int64_t) :: incarnation, next_offset, last_step
    real(c_double) :: last_time
    integer(c_int64_t) :: last_epoch
    integer(c_int) :: mapped
  end type

  ! What a stream has done.
  type, bind(c), public :: hr_statistics
    integer(c_int64_t) :: frames, bytes, acknowledged, dropped, reconnects
    real(c_double) :: waited
    integer(c_int64_t) :: delivered, repeated, applied, refused, expired
  end type

  interface
    function c_last_error() bind(c, name='hr_last_error') result(text)
      import :: c_ptr
      type(c_ptr) :: text
    end function
    function c_make_job(word, size) bind(c, name='hr_make_job') result(code)
      import :: c_char, c_int, c_size_t
      character(kind=c_char), intent(out) :: word(*)
      integer(c_size_t), value :: size
      integer(c_int) :: code
    end function
    function c_strlen(text) bind(c, name='strlen') result(n)
      import :: c_ptr, c_size_t
      type(c_ptr), value :: text
      integer(c_size_t) :: n
    end function
    function c_new(s, name) bind(c, name='hr_new') result(code)
      import :: c_ptr, c_char, c_int
      type(c_ptr), intent(out) :: s
      character(kind=c_char), intent(in) :: name(*)
      integer(c_int) :: code
    end function
    function c_set(s, option, text) bind(c, name='hr_set') result(code)
      import :: c_ptr, c_char, c_int
      type(c_ptr), value :: s
      character(kind=c_char), intent(in) :: option(*), text(*)
      integer(c_int) :: code
    end function
    function c_set_number(s, option, number) bind(c, name='hr_set_number') result(code)
      import :: c_ptr, c_char, c_int, c_double
      type(c_ptr), value :: s
      character(kind=c_char), intent(in) :: option(*)
      real(c_double), value :: number
      integer(c_int) :: code
    end function
    function c_declare(s, name, dtype, ndim, shape, unit, flags) bind(c, name='hr_declare') &
        result(code)
      import :: c_ptr, c_char, c_int, c_int64_t
      type(c_ptr), value :: s
      character(kind=c_char), intent(in) :: name(*), dtype(*), unit(*)
      integer(c_int), value :: ndim, flags
      integer(c_int64_t), intent(in) :: shape(*)
      integer(c_int) :: code
    end function
    function c_describe(s, name, text) bind(c, name='hr_describe') result(code)
      import :: c_ptr, c_char, c_int
      type(c_ptr), value :: s
      character(kind=c_char), intent(in) :: name(*), text(*)
      integer(c_int) :: code
    end function
    function c_attribute(s, name, text) bind(c, name='hr_attribute') result(code)
      import :: c_ptr, c_char, c_int
      type(c_ptr), value :: s
      character(kind=c_char), intent(in) :: name(*), text(*)
      integer(c_int) :: code
    end function
    function c_capability(s, kind, parameter, minimum, maximum, unit, text) &
        bind(c, name='hr_capability') result(code)
      import :: c_ptr, c_char, c_int, c_double
      type(c_ptr), value :: s
      character(kind=c_char), intent(in) :: kind(*), parameter(*), unit(*), text(*)
      real(c_double), value :: minimum, maximum
      integer(c_int) :: code
    end function
    function c_open(s) bind(c, name='hr_open') result(code)
      import :: c_ptr, c_int
      type(c_ptr), value :: s
      integer(c_int) :: code
    end function
    function c_get_resumed(s, out) bind(c, name='hr_get_resumed') result(code)
      import :: c_ptr, c_int, hr_resumed
      type(c_ptr), value :: s
      type(hr_resumed), intent(out) :: out
      integer(c_int) :: code
    end function
    function c_get_statistics(s, out) bind(c, name='hr_get_statistics') result(code)
      import :: c_ptr, c_int, hr_statistics
      type(c_ptr), value :: s
      type(hr_statistics), intent(out) :: out
      integer(c_int) :: code
    end function
    function c_due(s, step) bind(c, name='hr_due') result(yes)
      import :: c_ptr, c_int, c_int64_t
      type(c_ptr), value :: s
      integer(c_int64_t), value :: step
      integer(c_int) :: yes
    end function
    function c_value(s, name, data, bytes) bind(c, name='hr_value') result(code)
      import :: c_ptr, c_char, c_int, c_size_t
      type(c_ptr), value :: s, data
      character(kind=c_char), intent(in) :: name(*)
      integer(c_size_t), value :: bytes
      integer(c_int) :: code
    end function
    function c_put(s, step, time) bind(c, name='hr_put') result(code)
      import :: c_ptr, c_int, c_int64_t, c_double
      type(c_ptr), value :: s
      integer(c_int64_t), value :: step
      real(c_double), value :: time
      integer(c_int) :: code
    end function
    function c_put_block(s, step, time, start, rows, ids) bind(c, name='hr_put_block') &
        result(code)
      import :: c_ptr, c_int, c_int64_t, c_double
      type(c_ptr), value :: s, ids
      integer(c_int64_t), value :: step, start, rows
      real(c_double), value :: time
      integer(c_int) :: code
    end function
    function c_flush(s, timeout) bind(c, name='hr_flush') result(code)
      import :: c_ptr, c_int, c_double
      type(c_ptr), value :: s
      real(c_double), value :: timeout
      integer(c_int) :: code
    end function
    function c_event(s, kind, level, message) bind(c, name='hr_event') result(code)
      import :: c_ptr, c_int, c_char
      type(c_ptr), value :: s
      character(kind=c_char), intent(in) :: kind(*), level(*), message(*)
      integer(c_int) :: code
    end function
    function c_poll(s, step, time, command) bind(c, name='hr_poll') result(code)
      import :: c_ptr, c_int, c_int64_t, c_double
      type(c_ptr), value :: s
      integer(c_int64_t), value :: step
      real(c_double), value :: time
      type(c_ptr), intent(out) :: command
      integer(c_int) :: code
    end function
    function c_load(s, command) bind(c, name='hr_command_load') result(code)
      import :: c_ptr, c_int
      type(c_ptr), value :: s, command
      integer(c_int) :: code
    end function
    function c_applied(s, command, step, time) bind(c, name='hr_applied') result(code)
      import :: c_ptr, c_int, c_int64_t, c_double
      type(c_ptr), value :: s, command
      integer(c_int64_t), value :: step
      real(c_double), value :: time
      integer(c_int) :: code
    end function
    function c_refuse(s, command, reason, step, time) bind(c, name='hr_refuse') result(code)
      import :: c_ptr, c_int, c_int64_t, c_double, c_char
      type(c_ptr), value :: s, command
      character(kind=c_char), intent(in) :: reason(*)
      integer(c_int64_t), value :: step
      real(c_double), value :: time
      integer(c_int) :: code
    end function
    function c_wait(s, seconds) bind(c, name='hr_wait') result(code)
      import :: c_ptr, c_int, c_double
      type(c_ptr), value :: s
      real(c_double), value :: seconds
      integer(c_int) :: code
    end function
    function c_stopped(s) bind(c, name='hr_stopped') result(yes)
      import :: c_ptr, c_int
      type(c_ptr), value :: s
      integer(c_int) :: yes
    end function
    function c_every(s) bind(c, name='hr_every') result(steps)
      import :: c_ptr, c_int64_t
      type(c_ptr), value :: s
      integer(c_int64_t) :: steps
    end function
    function c_epoch(s) bind(c, name='hr_epoch') result(epoch)
      import :: c_ptr, c_int32_t
      type(c_ptr), value :: s
      integer(c_int32_t) :: epoch
    end function
    function c_close(s, finished) bind(c, name='hr_close') result(code)
      import :: c_ptr, c_int
      type(c_ptr), value :: s
      integer(c_int), value :: finished
      integer(c_int) :: code
    end function
    subroutine c_free(s) bind(c, name='hr_free')
      import :: c_ptr
      type(c_ptr), intent(inout) :: s
    end subroutine
    function c_command_id(command) bind(c, name='hr_command_id') result(text)
      import :: c_ptr
      type(c_ptr), value :: command
      type(c_ptr) :: text
    end function
    function c_command_kind(command) bind(c, name='hr_command_kind') result(text)
      import :: c_ptr
      type(c_ptr), value :: command
      type(c_ptr) :: text
    end function
    function c_command_parameter(command) bind(c, name='hr_command_parameter') result(text)
      import :: c_ptr
      type(c_ptr), value :: command
      type(c_ptr) :: text
    end function
    function c_command_value(command) bind(c, name='hr_command_value') result(number)
      import :: c_ptr, c_double
      type(c_ptr), value :: command
      real(c_double) :: number
    end function
    function c_command_number(command, name, number) bind(c, name='hr_command_number') &
        result(code)
      import :: c_ptr, c_char, c_int, c_double
      type(c_ptr), value :: command
      character(kind=c_char), intent(in) :: name(*)
      real(c_double), intent(out) :: number
      integer(c_int) :: code
    end function
    function c_command_text(command, name, text, n) bind(c, name='hr_command_text') result(length)
      import :: c_ptr, c_char, c_size_t, c_int64_t
      type(c_ptr), value :: command
      character(kind=c_char), intent(in) :: name(*)
      character(kind=c_char), intent(inout) :: text(*)
      integer(c_size_t), value :: n
      integer(c_int64_t) :: length
    end function
    function c_command_array(command, name, numbers, n) bind(c, name='hr_command_array') &
        result(code)
      import :: c_ptr, c_char, c_size_t, c_double, c_int
      type(c_ptr), value :: command
      character(kind=c_char), intent(in) :: name(*)
      real(c_double), intent(out) :: numbers(*)
      integer(c_size_t), value :: n
      integer(c_int) :: code
    end function
    function c_model_open(s, service, model) bind(c, name='hr_model_open') result(code)
      import :: c_ptr, c_char, c_int
      type(c_ptr), value :: s
      character(kind=c_char), intent(in) :: service(*)
      type(c_ptr), intent(out) :: model
      integer(c_int) :: code
    end function
    function c_model_input(model, name, values, rows, width) bind(c, name='hr_model_input') &
        result(code)
      import :: c_ptr, c_char, c_int64_t, c_int
      type(c_ptr), value :: model, values
      character(kind=c_char), intent(in) :: name(*)
      integer(c_int64_t), value :: rows, width
      integer(c_int) :: code
    end function
    function c_infer(model, timeout) bind(c, name='hr_infer') result(code)
      import :: c_ptr, c_double, c_int
      type(c_ptr), value :: model
      real(c_double), value :: timeout
      integer(c_int) :: code
    end function
    function c_model_valid(model, valid, rows) bind(c, name='hr_model_valid') result(count)
      import :: c_ptr, c_signed_char, c_int64_t
      type(c_ptr), value :: model
      integer(c_signed_char), intent(out) :: valid(*)
      integer(c_int64_t), value :: rows
      integer(c_int64_t) :: count
    end function
    function c_model_output(model, name, values, count) bind(c, name='hr_model_output') result(code)
      import :: c_ptr, c_char, c_size_t, c_int
      type(c_ptr), value :: model, values
      character(kind=c_char), intent(in) :: name(*)
      integer(c_size_t), value :: count
      integer(c_int) :: code
    end function
    function c_model_version(model) bind(c, name='hr_model_version') result(version)
      import :: c_ptr, c_int64_t
      type(c_ptr), value :: model
      integer(c_int64_t) :: version
    end function
    function c_model_reason(model) bind(c, name='hr_model_reason') result(text)
      import :: c_ptr
      type(c_ptr), value :: model
      type(c_ptr) :: text
    end function
    subroutine c_model_close(model) bind(c, name='hr_model_close')
      import :: c_ptr
      type(c_ptr), intent(inout) :: model
    end subroutine
  end interface
end module headrace_c
