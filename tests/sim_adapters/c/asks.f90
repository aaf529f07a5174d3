! Asks a model, twice: asks STAGER SERVICE; prints what came.
program asks
  use headrace
  implicit none
  type(hr_stream) :: s
  type(hr_model) :: m
  character(200) :: stager, service
  real(real64), target :: x(2, 3), y(2, 3), column(3)
  logical :: good(3)
  integer :: code, k
  integer(int64) :: many

  call get_command_argument(1, stager)
  call get_command_argument(2, service)
  call check(s%new('w'))
  call check(s%set('stager', stager))
  call check(s%declare('energy', HR_FLOAT64, [integer(int64) ::]))
  call check(s%open())
  call check(m%open(s, service))
  do k = 0, 1
    x = reshape([0.0_real64, 0.5_real64, 1.0_real64, 1.5_real64, 2.0_real64, 2.5_real64], [2, 3])
    x = x + k
    y = -1
    call check(m%input('x', x))
    code = m%infer(60.0_real64)
    call check(code)
    many = m%valid(good)
    if (code == HR_OK) call check(m%output('y', y))
    print '(i0, 1x, i0, 1x, i0, 3(1x, l1), 4(1x, f0.2), 1x, a)', &
      code, many, m%version(), good, y(:, :2), '['//m%reason()//']'
  end do
  column = 1
  call check(m%input('x', column))
  if (m%input('z', column(:2)) < 0) print '(a)', hr_message()
  call m%close()
  call m%close()
  call check(s%close())
  call s%free()

contains

  subroutine check(code)
    integer, intent(in) :: code
    if (code < 0) then
      print '(a)', hr_message()
      stop 1
    end if
  end subroutine
end program
