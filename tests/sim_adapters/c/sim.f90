! A simulation in Fortran for the tests: u(i, j, k) = step + i + 10 j + 100 k, and the parameter F.
program sim
  use headrace
  implicit none
  integer(int64), parameter :: nx = 3, ny = 4, nz = 5
  type(hr_stream) :: s
  type(hr_command) :: c
  type(hr_resumed) :: resumed
  type(hr_statistics) :: statistics
  real(real64), target :: u(nx, ny, nz), feed, wide(2*nx)
  integer(int32), target :: counts(2)
  real(real64) :: number
  integer(int64) :: step, i, j, k
  integer :: code
  character(200) :: address

  call get_command_argument(1, address)
  code = s%new('not a name')
  print '(a)', hr_message()
  if (code /= HR_ERROR_ARGUMENT) error stop 'a bad name'
  call check(s%new('f'))
  call check(s%set('stager', address))
  call check(s%set('time_unit', 's'))
  call check(s%set('capacity', 2**24))
  call check(s%set('linger', 0.0_real64))
  call check(s%declare('u', HR_FLOAT64, [nx, ny, nz], unit='mol/l'))
  call check(s%declare('F', HR_FLOAT64))
  call check(s%declare('counts', HR_INT32, [2_int64]))
  call check(s%describe('u', 'Concentration.'))
  call check(s%attribute('code', 'Fortran'))
  call check(s%capability('set', 'F', 0.0_real64, 1.0_real64, '1/s', 'Feed.'))
  call check(s%capability('restart'))
  call check(s%capability('stop'))
  call check(s%open())
  call check(s%resumed(resumed))
  print '(a, 3(1x, i0))', 'opened', resumed%incarnation, resumed%next_offset, resumed%last_step

  feed = 0.5
  code = s%value('u', wide(1:2*nx:2))
  if (code /= HR_ERROR_ARGUMENT) error stop 'an array with gaps'
  step = 0
  do while (.not. s%stopped() .and. step < 1000000)
    do k = 1, nz
      do j = 1, ny
        do i = 1, nx
          u(i, j, k) = real(step + i + 10*j + 100*k, real64)
        end do
      end do
    end do
    counts = int([step, 2*step], int32)
    if (s%due(step)) then
      call check(s%value('u', u))
      call check(s%value('F', feed))
      call check(s%value('counts', counts))
      call check(s%put(step, 0.5_real64*step))
    end if
    do while (s%poll(step, 0.5_real64*step, c) == HR_OK)
      if (c%kind() == 'restart') then
        call check(c%array('x', wide))
        print '(a, 1x, a, 6(1x, f4.1))', 'restart', c%id(), wide
        call check(s%applied(c, step, 0.5_real64*step))
      else if (c%value() > 0.9_real64) then
        call check(s%refuse(c, 'It is too much.', step, 0.5_real64*step))
      else
        feed = c%value()
        call check(c%number('weight', number))
        print '(a, 1x, a, 1x, a, 1x, a, 1x, f4.1, 1x, i0)', 'set', c%id(), c%parameter(), &
          c%text('reason'), number, step
        call check(s%applied(c, step, 0.5_real64*step))
      end if
    end do
    if (s%wait(0.0005_real64) < 0) error stop 'wait'
    step = step + 1
  end do
  call check(s%event('done', 'info', 'The Fortran program has ended.'))
  call check(s%flush())
  call check(s%close())
  call check(s%close())
  call check(s%statistics(statistics))
  print '(a, 2(1x, i0))', 'end', statistics%frames, statistics%applied
  call s%free()
  call s%free()

contains

  subroutine check(status)
    integer, intent(in) :: status
    if (status < 0) then
      print '(i0, 1x, a)', status, hr_message()
      error stop
    end if
  end subroutine
end program
