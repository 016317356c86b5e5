# Checks the units without installing them: the service is pointed at the built program, both are put side by side, and any complaint of
# systemd-analyze is a failure.
file(REMOVE_RECURSE ${WORK})
file(MAKE_DIRECTORY ${WORK})
file(READ ${SERVICE} text)
string(REGEX REPLACE "=[^\n]*/sbin/trtcolld " "=${PROGRAM} " text "${text}")
string(REGEX REPLACE "Documentation=[^\n]*\n" "" text "${text}") # manual pages that are not installed yet are no error
file(WRITE ${WORK}/trtcolld.service "${text}")
file(READ ${SOCKET} text)
string(REGEX REPLACE "Documentation=[^\n]*\n" "" text "${text}")
file(WRITE ${WORK}/trtcolld.socket "${text}")
execute_process(COMMAND ${ANALYZE} verify --man=no ${WORK}/trtcolld.service ${WORK}/trtcolld.socket
  RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
string(REGEX MATCH "[^\n]*trtcolld[^\n]*" complaint "${output}")
if(NOT result EQUAL 0 OR complaint)
  message(FATAL_ERROR "systemd-analyze verify (${result}):\n${output}")
endif()
